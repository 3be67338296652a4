//! The HTTP server: routes, the gate in front of them, and connections with limits.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::{get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tungstenite::handshake::derive_accept_key;

use super::connection::Connection;
use super::gate::{Gate, Refusal};
use super::worker::{Worker, last_word};
use super::{metrics, page, streams, ws};
use crate::output::text::sanitise;
use crate::wire::message::PROTOCOL;
use crate::wire::status::Status;

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
    let app = App { worker, gate: Arc::new(gate) };
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
    page::page(&worker.settings.instance_id, worker.plan.main)
        .unwrap_or_else(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response())
}

/// Gives a browser whose page showed the token the cookie that stands for it. The gate has judged the token.
async fn sign_in(State(app): State<App>) -> Response {
    let cookie = app.gate.set_cookie().map(|cookie| (header::SET_COOKIE, cookie));
    (StatusCode::NO_CONTENT, AppendHeaders(cookie)).into_response()
}

async fn status(State(worker): State<Arc<Worker>>) -> Response {
    told(worker, |status| ([streams::NO_STORE], axum::Json(status)).into_response()).await
}

/// An answer made of the status. The driver is asked for it, which may take its time.
async fn told(worker: Arc<Worker>, answer: fn(&Status) -> Response) -> Response {
    let status = tokio::task::spawn_blocking(move || worker.status()).await;
    status.map_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response(), |status| answer(&status))
}

async fn ready(State(worker): State<Arc<Worker>>) -> Response {
    match worker.not_running() {
        // Where the first frame is still to come, a viewer may join and wait for it.
        None => "ready\n".into_response(),
        Some(condition) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", condition.reason)).into_response(),
    }
}

async fn metrics(State(worker): State<Arc<Worker>>) -> Response {
    const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";
    told(worker, |status| ([(header::CONTENT_TYPE, KIND)], metrics::render(status)).into_response()).await
}

/// Answers the handshake (RFC 6455, 4.2) and hands the connection to a session.
async fn websocket(
    State(app): State<App>,
    wanted: Result<Query<ws::Wanted>, QueryRejection>,
    mut request: Request,
) -> Response {
    let wanted = match wanted {
        Ok(Query(wanted)) => wanted,
        Err(rejection) => return streams::not_understood(&rejection),
    };
    let headers = request.headers();
    let is = |name, value: &str| {
        let values = headers.get_all(name).iter().filter_map(|text| text.to_str().ok());
        values.flat_map(|text| text.split(',')).any(|text| text.trim().eq_ignore_ascii_case(value))
    };
    let upgrades = is(header::CONNECTION, "upgrade") && is(header::UPGRADE, "websocket");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| upgrades && is(header::SEC_WEBSOCKET_VERSION, "13"));
    let Some(key) = key else {
        let wanted = [(header::UPGRADE, "websocket"), (header::SEC_WEBSOCKET_VERSION, "13")];
        return (StatusCode::UPGRADE_REQUIRED, wanted, "this path is a WebSocket\n").into_response();
    };
    let accept = derive_accept_key(key.as_bytes());
    let protocol = is(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL).then_some((header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL));
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        // A client that leaves before the answer is there has nothing to be told.
        let Ok(upgraded) = upgraded.await else { return };
        match upgraded.downcast::<TokioIo<Connection>>() {
            Ok(parts) => ws::Session::serve(app.worker, wanted, parts.io.into_inner(), parts.read_buf).await,
            Err(_) => tracing::error!("a WebSocket came over a connection that is none of ours"),
        }
    });
    let upgrade = [(header::CONNECTION, "Upgrade"), (header::UPGRADE, "websocket")];
    let accept = [(header::SEC_WEBSOCKET_ACCEPT, accept)];
    (StatusCode::SWITCHING_PROTOCOLS, upgrade, accept, AppendHeaders(protocol)).into_response()
}
