//! The HTTP server: routes, the gate in front of them, and connections with limits.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{Utf8Bytes, WebSocketUpgrade};
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::connection::Connection;
use super::gate::{Gate, Refusal};
use super::worker::{Worker, last_word};
use super::{metrics, page, streams, ws};
use crate::output::text::sanitise;
use crate::wire::message::{PROTOCOL, Server};

/// A request's head must be whole in this time.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// The largest request head, bytes.
const HEAD_BYTES: usize = 16 << 10;
/// The largest request body, bytes: no path takes one of weight.
const BODY_BYTES: usize = 4 << 10;
/// Connections beside those of viewers.
const SPARE_CONNECTIONS: usize = 128;
/// Unsent bytes that the kernel may hold of one viewer's stream: what waits beyond is ours to skip.
const UNSENT: u32 = 128 << 10;

#[derive(Clone)]
struct App {
    worker: Arc<Worker>,
    gate: Arc<Gate>,
    stats: watch::Receiver<Utf8Bytes>,
}

impl axum::extract::FromRef<App> for Arc<Worker> {
    fn from_ref(app: &App) -> Arc<Worker> {
        app.worker.clone()
    }
}

/// Serves connections until the worker stops; returns when all of them are closed.
pub async fn serve(listener: TcpListener, worker: Arc<Worker>, gate: Gate) {
    let most = worker.settings.max_viewers as usize + SPARE_CONNECTIONS;
    let (room, mut stopping) = (Arc::new(Semaphore::new(most)), worker.stopping());
    let service = TowerToHyperService::new(routes(worker, gate));
    loop {
        // Those beyond wait in the kernel until one closes.
        let accepted = async { (room.clone().acquire_owned().await, listener.accept().await) };
        let (place, accepted) = tokio::select! {
            (Ok(place), accepted) = accepted => (place, accepted),
            _ = last_word(&mut stopping) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                if let Err(error) = prepare(&stream) {
                    tracing::debug!("a connection cannot be set up: {error}");
                }
                tokio::spawn(converse(Connection::new(stream, place), service.clone(), stopping.clone()));
            }
            Err(error) => {
                // Out of descriptors, most likely: those that close make room.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let _ = room.acquire_many(most as u32).await;
}

/// Answers one connection's requests. At the worker's end, the one under way is the last.
async fn converse(
    connection: Connection,
    service: TowerToHyperService<Router>,
    mut stopping: watch::Receiver<Option<String>>,
) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_BYTES);
    let mut talk = std::pin::pin!(http.serve_connection(TokioIo::new(connection), service).with_upgrades());
    let done = tokio::select! {
        done = talk.as_mut() => done,
        _ = last_word(&mut stopping) => {
            talk.as_mut().graceful_shutdown();
            talk.await
        }
    };
    if let Err(error) = done {
        tracing::debug!("connection: {error}");
    }
}

/// Small messages go at once, and little waits in the kernel.
fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT)
}

fn routes(worker: Arc<Worker>, gate: Gate) -> Router {
    let stats = publish_stats(worker.clone());
    let app = App { worker, gate: Arc::new(gate), stats };
    Router::new()
        .route("/", get(page))
        .route("/auth", post(sign_in).get(|| async { StatusCode::NO_CONTENT }))
        .route("/status", get(status))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/ws", get(websocket))
        .route("/stream.mp4", get(streams::mp4))
        .route("/stream.h264", get(streams::h264))
        .route("/stream.mjpg", get(streams::mjpeg))
        .route("/frame.jpg", get(streams::still))
        .layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .with_state(app)
}

async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    match app.gate.judge(request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            let path = sanitise(request.uri().path());
            tracing::debug!("refused {} {path}: {refusal:?}", request.method());
            refused(refusal)
        }
    }
}

fn refused(refusal: Refusal) -> Response {
    let error = refusal.error();
    let body = serde_json::json!({ "error": error.what, "hint": error.hint });
    let code = if refusal == Refusal::Token { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
    let mut response = (code, axum::Json(body)).into_response();
    if refusal == Refusal::Token {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    }
    response
}

async fn page(State(worker): State<Arc<Worker>>) -> Response {
    page::page(&worker.settings.instance_id)
        .unwrap_or_else(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response())
}

/// Gives a browser whose page showed the token the cookie that stands for it. The gate has judged the token.
async fn sign_in(State(app): State<App>) -> Response {
    let cookie = app.gate.set_cookie().map(|cookie| (header::SET_COOKIE, cookie));
    (StatusCode::NO_CONTENT, axum::response::AppendHeaders(cookie)).into_response()
}

async fn status(State(worker): State<Arc<Worker>>) -> Response {
    ([streams::NO_STORE], axum::Json(worker.status())).into_response()
}

async fn ready(State(worker): State<Arc<Worker>>) -> Response {
    match worker.not_running() {
        // Where the first frame is still to come, a viewer may join and wait for it.
        None => "ready\n".into_response(),
        Some(condition) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", condition.reason)).into_response(),
    }
}

async fn metrics(State(worker): State<Arc<Worker>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::render(&worker.status()))
        .into_response()
}

#[derive(Deserialize)]
struct Wanted {
    video: Option<ws::Video>,
}

async fn websocket(State(app): State<App>, Query(wanted): Query<Wanted>, upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .protocols([PROTOCOL])
        .max_message_size(ws::MAX_MESSAGE)
        .max_frame_size(ws::MAX_MESSAGE)
        // The library's defaults take 256 KiB for each viewer.
        .read_buffer_size(2 << 10)
        .write_buffer_size(0)
        .on_upgrade(move |socket| ws::session(app.worker, app.stats, wanted.video, socket))
}

/// Works the figures out once a second for all sessions together, while there are any.
fn publish_stats(worker: Arc<Worker>) -> watch::Receiver<Utf8Bytes> {
    let (sender, receiver) = watch::channel(Utf8Bytes::default());
    tokio::spawn(async move {
        let (backend, mut sessions) = (worker.backend(), worker.sessions.subscribe());
        while sessions.wait_for(|&open| open > 0).await.is_ok() {
            let [main, other] = worker.streams();
            let viewers = main.viewers + other.viewers;
            let stream = if main.viewers == 0 && other.viewers > 0 { other } else { main };
            let measured = |value: f64| (value > 0.0).then_some(value);
            let stats = Server::Stats {
                fps: measured(stream.fps),
                bitrate_bps: measured(stream.bitrate_bps),
                viewers,
                backend: &backend,
                dropped: stream.skipped,
                latency_ms: &worker.latency(),
            };
            sender.send_replace(serde_json::to_string(&stats).expect("plain data").into());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    receiver
}
