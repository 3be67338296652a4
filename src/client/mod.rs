//! The other end of a worker: reads its `/status`, and watches and measures its streams ([`view`]).
//!
//! Whoever answers may be anybody: a server that is no worker, one that never ends, one that sends elsewhere. The whole takes
//! no longer than it is given, holds no more than [`CAP`] bytes, follows no redirect, and ends in a value either way.

pub mod view;
mod worker;

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue, LOCATION};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

pub use self::worker::{State, Status, Worker};
use crate::config::Secret;
use crate::error::{Error, Kind, Result};

/// Bytes of an answer that are read. A worker's `/status` has some 2 KiB.
pub const CAP: usize = 1 << 20;

/// A worker's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
    path: String,
}

impl Target {
    /// The worker at a host name or IP address and a port.
    pub fn new(host: &str, port: u16) -> Target {
        Target { host: host.trim_matches(['[', ']']).into(), port, path: "/status".into() }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of the worker's page.
    fn page(&self) -> String {
        format!("http://{}{}", self.authority(), self.base())
    }

    /// The path that the worker's own paths lie under; it ends with a slash.
    fn base(&self) -> &str {
        &self.path[..=self.path.rfind('/').unwrap_or(0)]
    }

    /// Host and port as a URL and a Host header have them.
    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// The address of its `/status`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path)
    }
}

/// `http://HOST[:PORT][/PATH]` or `HOST:PORT`. A path that ends with `/` is a page's, and its `status` is meant.
impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Target> {
        let wrong = |hint: &str| Error::usage(format!("'{text}' is not a worker's address")).hint(hint);
        let full = if text.contains("://") { text.to_string() } else { format!("http://{text}") };
        let uri: Uri = full.parse().map_err(|_| wrong("write its URL, such as http://render7:5000"))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong("only http:// is spoken here; through a tunnel: ssh -L 5000:127.0.0.1:5000 HOST"));
        }
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        let authority = authority.ok_or_else(|| wrong("write its URL, such as http://render7:5000"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("a token stands in GSK_TOKEN, not in the address"));
        }
        let bare = authority.as_str().len() == authority.host().len();
        if !bare && authority.port_u16().is_none() {
            return Err(wrong("a port is a number from 1 to 65535"));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.ends_with('/') { format!("{path}status") } else { path.to_string() };
        Ok(Target { path, ..Target::new(authority.host(), authority.port_u16().unwrap_or(80)) })
    }
}

/// Asks all workers at once; each is given `limit`. In the order of `targets`.
pub async fn workers(targets: &[Target], token: Option<&Secret>, limit: Duration) -> Vec<Worker> {
    let asked = targets.iter().map(async |target| Worker::new(target, status(target, token, limit).await));
    futures_util::future::join_all(asked).await
}

/// What a worker says of itself, as far as it is understood.
///
/// # Errors
/// [`Kind::Unreachable`] where nobody answers within `limit` or the answer is no worker's, [`Kind::Permission`] where it wants
/// a token.
pub async fn status(target: &Target, token: Option<&Secret>, limit: Duration) -> Result<Status> {
    let stage = Cell::new("no connection");
    match tokio::time::timeout(limit, ask(target, token, &stage)).await {
        Ok(result) => result.and_then(|body| Status::parse(&body)),
        Err(_) => Err(unreachable(format!("{} within {} s", stage.get(), limit.as_secs_f64()))),
    }
}

fn unreachable(what: impl Into<String>) -> Error {
    Error::new(Kind::Unreachable, what)
}

/// `stage` tells what is waited for: what there is none of when time is up.
async fn ask(target: &Target, token: Option<&Secret>, stage: &Cell<&str>) -> Result<Vec<u8>> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => unreachable("nothing listens there"),
        _ => unreachable("no connection").cause(error),
    })?;
    stage.set("connected, but no answer");
    let no_http = |error: hyper::Error| unreachable("what answers there does not speak HTTP").cause(error);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(no_http)?;
    // Its errors come out of the request as well.
    let connection = async { drop(connection.await) };
    let answer = async {
        let answer = sender.send_request(request(target, token)?).await.map_err(no_http)?;
        stage.set("an answer that does not end");
        judge(&answer)?;
        read(answer.into_body()).await
    };
    tokio::pin!(connection, answer);
    // The connection carries the answer until it is whole, and may be over before the last of it is read.
    match futures_util::future::select(answer, connection).await {
        futures_util::future::Either::Left((answer, _)) => answer,
        futures_util::future::Either::Right(((), answer)) => answer.await,
    }
}

fn request(target: &Target, token: Option<&Secret>) -> Result<Request<String>> {
    let mut request = Request::get(&target.path).header(HOST, target.authority()).header(ACCEPT, "application/json");
    if let Some(token) = token {
        let value = HeaderValue::try_from(format!("Bearer {}", token.reveal()));
        let mut value = value.map_err(|_| Error::usage("the token holds what no header can"))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request.body(String::new()).map_err(|error| Error::usage(format!("{target} cannot be asked for")).cause(error))
}

fn judge(answer: &Response<Incoming>) -> Result<()> {
    let status = answer.status();
    if status == StatusCode::OK {
        return Ok(());
    }
    if status == StatusCode::UNAUTHORIZED {
        return Err(Error::new(Kind::Permission, "it wants its access token, in GSK_TOKEN (401)"));
    }
    let to = answer.headers().get(LOCATION).map(|to| String::from_utf8_lossy(to.as_bytes()).into_owned());
    let words = match (status.is_redirection(), to) {
        (true, Some(to)) => format!("no worker answers there: it sends on to {to} ({})", status.as_u16()),
        _ => format!("no worker answers there: {status}"),
    };
    Err(unreachable(words))
}

async fn read(mut body: Incoming) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| unreachable("its answer broke off").cause(error))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > CAP {
            return Err(unreachable("no worker answers there: the answer is larger than 1 MiB"));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
