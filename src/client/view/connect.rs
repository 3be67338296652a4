//! Connections to a worker, and what its refusals mean.

use std::io;

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tungstenite::error::Error as WsError;

use super::unit::MAX_UNIT;
use crate::client::{Target, unreachable};
use crate::config::Secret;
use crate::error::{Error, Kind, Result};
use crate::wire::message::PROTOCOL;

/// What one reads at a time: with a thousand viewers in one process, it is most of their memory.
const READ_BUFFER: usize = 32 << 10;
/// Bytes of a refusal's body that are read.
const MAX_REFUSAL: usize = 16 << 10;

pub async fn tcp(target: &Target) -> Result<TcpStream> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => unreachable(format!("nothing listens at {}", target.authority()))
            .hint("see that the worker runs, and on which port: gsk nvenc-status --workers 1"),
        _ => unreachable(format!("no connection to {}", target.authority())).cause(error),
    })?;
    stream.set_nodelay(true).map_err(|error| unreachable("the connection cannot be set up").cause(error))?;
    Ok(stream)
}

fn bearer(token: &Secret) -> Result<HeaderValue> {
    let value = HeaderValue::try_from(format!("Bearer {}", token.reveal()));
    let mut value = value.map_err(|_| Error::usage("the token holds what no header can"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Opens `gsk.v1` over a connection.
pub async fn websocket(
    stream: TcpStream,
    target: &Target,
    path: &str,
    token: Option<&Secret>,
) -> Result<WebSocketStream<TcpStream>> {
    let url = format!("ws://{}{path}", target.authority());
    let mut request = url.into_client_request().map_err(|error| Error::usage("no such address").cause(error))?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(PROTOCOL));
    if let Some(token) = token {
        request.headers_mut().insert(AUTHORIZATION, bearer(token)?);
    }
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_message_size(Some(MAX_UNIT))
        .max_frame_size(Some(MAX_UNIT));
    match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, answer)) => {
            let spoken = answer.headers().get("sec-websocket-protocol").and_then(|value| value.to_str().ok());
            if spoken != Some(PROTOCOL) {
                return Err(unreachable("no worker answers there: its WebSocket does not speak gsk.v1"));
            }
            Ok(socket)
        }
        Err(WsError::Http(answer)) => {
            let body = answer.body().as_deref().unwrap_or_default();
            Err(refused(answer.status(), &body[..body.len().min(MAX_REFUSAL)]))
        }
        Err(error) => Err(unreachable("what answers there opens no WebSocket").cause(error)),
    }
}

/// Asks for a stream over a connection; gives the answer once it is one, and what drives the connection until it is dropped.
pub async fn http(
    stream: TcpStream,
    target: &Target,
    path: &str,
    token: Option<&Secret>,
) -> Result<(Response<Incoming>, JoinSet<()>)> {
    let no_http = |error: hyper::Error| unreachable("what answers there does not speak HTTP").cause(error);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(no_http)?;
    let mut driver = JoinSet::new();
    // Its errors come out of the body as well.
    driver.spawn(async { drop(connection.await) });
    let mut request = Request::get(path).header(HOST, target.authority());
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, bearer(token)?);
    }
    let request = request.body(String::new()).map_err(|error| Error::usage("no such address").cause(error))?;
    let answer = sender.send_request(request).await.map_err(no_http)?;
    let status = answer.status();
    if status == StatusCode::OK {
        return Ok((answer, driver));
    }
    let (mut body, mut bytes) = (answer.into_body(), Vec::new());
    while let Some(Ok(data)) = next(&mut body).await {
        bytes.extend_from_slice(&data);
        if bytes.len() > MAX_REFUSAL {
            break;
        }
    }
    Err(refused(status, &bytes))
}

/// The next bytes of a body; `None` at its end.
pub async fn next(body: &mut Incoming) -> Option<hyper::Result<bytes::Bytes>> {
    use hyper::body::Body;
    loop {
        match std::future::poll_fn(|cx| std::pin::Pin::new(&mut *body).poll_frame(cx)).await? {
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

/// What a worker's refusal means, in its own words where it has some.
fn refused(status: StatusCode, body: &[u8]) -> Error {
    let said = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let word = |key: &str| said[key].as_str().filter(|text| !text.is_empty()).map(str::to_string);
    let (state, reason) = (word("state"), word("reason").or(word("error")));
    let with = |error: Error| reason.clone().into_iter().fold(error, Error::cause);
    match status {
        StatusCode::UNAUTHORIZED => Error::new(Kind::Permission, "the worker wants its access token (401)")
            .hint("give the whole link that gsk serve printed, or --token-file FILE, or GSK_TOKEN"),
        StatusCode::FORBIDDEN => {
            let error = with(Error::new(Kind::Permission, "the worker lets nobody in by this address (403)"));
            word("hint").into_iter().fold(error, Error::hint)
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            let what = match state.as_deref() {
                Some("no-slot") => "the worker has no encoder slot",
                _ => "the worker has no room (503)",
            };
            with(Error::new(Kind::Capacity, what)).hint("see who holds what: gsk nvenc-status")
        }
        StatusCode::CONFLICT => with(Error::failed("the worker has nothing to show (409)")),
        _ => with(unreachable(format!("no worker answers there: {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_their_exit_codes_and_words() {
        let cases = [
            (401, r#"{"error":"a token is needed"}"#, Kind::Permission, "access token"),
            (403, r#"{"error":"this Host is not ours","hint":"x"}"#, Kind::Permission, "this Host is not ours"),
            (
                503,
                r#"{"state":"no-slot","reason":"2 of 2 held by omega-0"}"#,
                Kind::Capacity,
                "no encoder slot: 2 of 2 held",
            ),
            (
                503,
                r#"{"state":"streaming","reason":"all places are taken"}"#,
                Kind::Capacity,
                "no room (503): all places",
            ),
            (409, r#"{"state":"error","reason":"it ended"}"#, Kind::Failed, "nothing to show (409): it ended"),
            (404, "<html>", Kind::Unreachable, "404 Not Found"),
        ];
        for (status, body, kind, says) in cases {
            let error = refused(StatusCode::from_u16(status).unwrap(), body.as_bytes());
            assert_eq!(error.kind, kind, "{status}");
            assert!(error.to_string().contains(says), "{status}: {error}");
        }
    }
}
