//! The plain HTTP streams: MP4, bare H.264, multipart JPEG, and one still.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use tokio::time::timeout;

use super::worker::{Seat, Worker};
use crate::error::{Error, Kind};
use crate::lease::Denied;
use crate::pipeline::Health;
use crate::pipeline::broadcast::{Packet, Waiting};
use crate::pipeline::encode::{Codec, Main, NoSlot, WhenFull};
use crate::pipeline::mp4::{Fragmenter, Timeline};
use crate::pipeline::queue::Item;
use crate::wire::status::{self, Condition};

/// How long a request waits for the first picture before it is told that there is none.
const FIRST: Duration = Duration::from_secs(10);

const BOUNDARY: &str = "gsk-frame";

/// After a picture that none follows for so long, multipart JPEG has it once more: Chromium shows a part only when the
/// head of the next is there, and would wait for the keepalive. Parts without a length, whose heads could be sent ahead,
/// would make those wait who read in blocks, such as FFmpeg.
const PAUSE: Duration = Duration::from_millis(100);

/// The query of `/stream.mp4`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Mp4 {
    timeline: Timeline,
    codec: Option<Main>,
}

pub async fn mp4(
    State(worker): State<Arc<Worker>>,
    method: Method,
    query: Result<Query<Mp4>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return not_understood(&rejection),
    };
    let mut fragmenter = Fragmenter::new(query.timeline, worker.pipeline.fps());
    let write = move |packet: &Packet| match fragmenter.fragment(packet) {
        Ok(fragment) => fragment.into_iter().flat_map(|(head, sample)| [head, sample]).collect(),
        Err(error) => {
            tracing::error!("{error}");
            Vec::new()
        }
    };
    // Under a choice of JPEG there is none, and H.264's refusal says so.
    let main = Some(worker.plan.main).filter(|&main| main != Codec::Jpeg).unwrap_or(Codec::H264);
    let codec = query.codec.map_or(main, Codec::from);
    stream_of(worker, method, codec, "video/mp4", None, write).await
}

pub async fn h264(State(worker): State<Arc<Worker>>, method: Method) -> Response {
    stream_of(worker, method, Codec::H264, "video/h264", None, |packet| vec![packet.unit()]).await
}

pub async fn mjpeg(State(worker): State<Arc<Worker>>, method: Method) -> Response {
    let mut first = true;
    let write = move |packet: &Packet| {
        let jpeg = packet.unit();
        let opening = if std::mem::take(&mut first) { format!("--{BOUNDARY}\r\n") } else { String::new() };
        let head = format!("{opening}Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len());
        // The next boundary follows at once: it ends the part for those who go by it.
        vec![Bytes::from(head), jpeg, Bytes::from(format!("\r\n--{BOUNDARY}\r\n"))]
    };
    let kind = format!("multipart/x-mixed-replace; boundary={BOUNDARY}");
    stream_of(worker, method, Codec::Jpeg, &kind, Some(PAUSE), write).await
}

pub async fn still(State(worker): State<Arc<Worker>>, method: Method) -> Response {
    let answer = |body: Body| ([(header::CONTENT_TYPE, "image/jpeg"), NO_STORE], body).into_response();
    match open(&worker, &method, Codec::Jpeg).await {
        Err(refusal) => *refusal,
        Ok(None) => answer(Body::from_stream(stream::empty::<Result<Bytes, std::convert::Infallible>>())),
        Ok(Some((_, packet))) => answer(packet.unit().into()),
    }
}

pub const NO_STORE: (header::HeaderName, &str) = (header::CACHE_CONTROL, "no-store");

/// An endless answer: what `write` makes of each unit, from a key unit on, and of the last once more after a pause where
/// one is given.
async fn stream_of(
    worker: Arc<Worker>,
    method: Method,
    codec: Codec,
    kind: &str,
    pause: Option<Duration>,
    mut write: impl FnMut(&Packet) -> Vec<Bytes> + Send + 'static,
) -> Response {
    let body = match open(&worker, &method, codec).await {
        Err(refusal) => return *refusal,
        // Of no known length, as the answer to GET would be.
        Ok(None) => Body::from_stream(stream::empty::<Result<Bytes, std::convert::Infallible>>()),
        Ok(Some((seat, first))) => {
            let waiting: std::collections::VecDeque<Bytes> = write(&first).into();
            let units = Units { seat, pause, last: pause.and(Some(first)) };
            Body::from_stream(stream::unfold(
                (units, waiting, write),
                |(mut units, mut waiting, mut write)| async move {
                    loop {
                        if let Some(bytes) = waiting.pop_front() {
                            return Some((Ok::<_, std::convert::Infallible>(bytes), (units, waiting, write)));
                        }
                        let packet = units.next().await?;
                        waiting = write(&packet).into();
                    }
                },
            ))
        }
    };
    ([(header::CONTENT_TYPE, kind), NO_STORE], body).into_response()
}

/// A viewer's units behind the first.
struct Units {
    seat: Seat<Waiting>,
    pause: Option<Duration>,
    /// The one to give once more after the pause.
    last: Option<Arc<Packet>>,
}

impl Units {
    async fn next(&mut self) -> Option<Arc<Packet>> {
        loop {
            let next = self.seat.viewer.next();
            let item = match self.pause.filter(|_| self.last.is_some()) {
                Some(pause) => match timeout(pause, next).await {
                    Ok(item) => item?,
                    Err(_) => return self.last.take(),
                },
                None => next.await?,
            };
            // A skip needs no word here: the next unit is a key unit.
            if let Item::Unit(packet) = item {
                self.last = self.pause.and(Some(packet.clone()));
                return Some(packet);
            }
        }
    }
}

/// A seat and its first unit, or the answer to give in its place. `HEAD` starts nothing and gets none.
async fn open(
    worker: &Arc<Worker>,
    method: &Method,
    codec: Codec,
) -> Result<Option<(Seat<Waiting>, Arc<Packet>)>, Box<Response>> {
    if let Some(condition) = worker.not_running() {
        return Err(refusal(StatusCode::CONFLICT, &condition, &[]));
    }
    let now = || worker.condition_now();
    if method == Method::HEAD {
        worker.encodes(codec).map_err(|error| refused(&error, now(), worker))?;
        let with = worker.clone();
        // The driver is asked, which may take its time.
        let slot = tokio::task::spawn_blocking(move || with.has_slot(codec)).await;
        return match slot {
            Ok(Err(Denied::Full(refusal))) => Err(without_slot(&(&refusal).into(), now())),
            Ok(Err(Denied::Failed(error))) => Err(refused(&error, now(), worker)),
            _ => Ok(None),
        };
    }
    let seat = worker.join(codec).map_err(|error| refused(&error, now(), worker))?;
    let first = async {
        loop {
            match seat.viewer.next().await {
                Some(Item::Unit(packet)) => return Some(packet),
                Some(Item::Drop(_)) => {}
                None => return None,
            }
        }
    };
    let mut health = worker.pipeline.health();
    let first = tokio::select! {
        first = timeout(FIRST, first) => first,
        lack = worker.lacks_slot(codec), if worker.settings.when_full != WhenFull::Wait => {
            return Err(without_slot(&lack, now()));
        }
        _ = health.wait_for(|health| matches!(health, Health::Failed(_))) => Ok(None),
    };
    match first {
        Ok(Some(packet)) => Ok(Some((seat, packet))),
        Ok(None) => Err(refusal(StatusCode::CONFLICT, &worker.not_running().unwrap_or_else(now), &[])),
        Err(_) => {
            if let Some(lack) = worker.pipeline.stream(codec).snapshot().no_slot {
                return Err(without_slot(&lack, now()));
            }
            let mut condition = now();
            if condition.reason.is_empty() {
                condition.reason = format!("no picture came in {} s", FIRST.as_secs());
            }
            Err(refusal(StatusCode::SERVICE_UNAVAILABLE, &condition, &[]))
        }
    }
}

/// Why nobody is let in: no encoder for the codec, for which to come again is in vain, or no place.
fn refused(error: &Error, now: Condition, worker: &Worker) -> Box<Response> {
    let condition = Condition { reason: error.to_string(), ..now };
    match error.kind {
        Kind::Capacity => refusal(StatusCode::SERVICE_UNAVAILABLE, &condition, &worker.holders()),
        Kind::Unreachable => refusal(StatusCode::CONFLICT, &condition, &[]),
        _ => {
            let Condition { state, reason, since } = condition;
            let body = serde_json::json!({ "state": state, "reason": reason, "since": since, "hint": error.hint });
            Box::new((StatusCode::CONFLICT, [NO_STORE], axum::Json(body)).into_response())
        }
    }
}

/// A query with a word that is none of the path's.
pub fn not_understood(rejection: &QueryRejection) -> Response {
    let said = rejection.body_text();
    let cause = said.trim_start_matches("Failed to deserialize query string: ").replace('`', "'");
    let body = serde_json::json!({ "error": format!("the query is not understood: {cause}") });
    (StatusCode::BAD_REQUEST, [NO_STORE], axum::Json(body)).into_response()
}

/// No encoder slot is free: who holds them.
fn without_slot(lack: &NoSlot, now: Condition) -> Box<Response> {
    let condition = Condition { state: status::State::NoSlot, reason: lack.reason.clone(), ..now };
    refusal(StatusCode::SERVICE_UNAVAILABLE, &condition, &lack.holders)
}

/// A refusal in words, with who holds what is missing.
fn refusal(code: StatusCode, condition: &Condition, holders: &[String]) -> Box<Response> {
    let Condition { state, reason, since } = condition;
    let body = serde_json::json!({ "state": state, "reason": reason, "since": since, "holders": holders });
    let headers = [NO_STORE, (header::RETRY_AFTER, "2")];
    Box::new((code, headers, axum::Json(body)).into_response())
}
