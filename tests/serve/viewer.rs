//! A viewer: `gsk.v1` over a WebSocket, its header read by hand.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::HandshakeError;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket, client};

/// What is waited for comes within this time; figures come every second whether or not anything else does.
const BOUND: Duration = Duration::from_secs(20);

pub struct Viewer {
    pub socket: WebSocket<TcpStream>,
    /// The close frame's reason, once there was one.
    pub closed_with: Option<String>,
}

/// An access unit and its header.
#[derive(Debug)]
pub struct Unit {
    pub at: Instant,
    pub key: bool,
    pub sequence: u32,
    pub view: u32,
    pub captured_us: u64,
    pub encoded_after_us: u32,
    pub data: Vec<u8>,
}

#[derive(Debug)]
pub enum Got {
    Said(Value),
    Unit(Unit),
    Pong,
    /// The connection is over.
    Closed,
}

impl Viewer {
    /// Joins at a path such as `/ws?video=jpeg`.
    pub fn join(addr: SocketAddr, path: &str) -> Viewer {
        Viewer::over(TcpStream::connect(addr).unwrap(), path, &[]).unwrap_or_else(|code| panic!("refused with {code}"))
    }

    /// Joins over a connection; a refusal's status code otherwise.
    pub fn over(stream: TcpStream, path: &str, headers: &[(&'static str, &str)]) -> Result<Viewer, u16> {
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let url = format!("ws://{}{path}", stream.peer_addr().unwrap());
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "gsk.v1".parse().unwrap());
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        match client(request, stream) {
            Ok((socket, answer)) => {
                assert_eq!(answer.headers()["sec-websocket-protocol"], "gsk.v1");
                Ok(Viewer { socket, closed_with: None })
            }
            Err(HandshakeError::Failure(Error::Http(answer))) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    pub fn next(&mut self) -> Got {
        match self.socket.read() {
            Ok(Message::Text(text)) => Got::Said(serde_json::from_str(&text).unwrap()),
            Ok(Message::Binary(message)) => Got::Unit(Unit::parse(&message)),
            Ok(Message::Pong(_)) => Got::Pong,
            Ok(Message::Close(frame)) => {
                self.closed_with = frame.map(|frame| frame.reason.to_string());
                Got::Closed
            }
            Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_)) => Got::Closed,
            Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => Got::Closed,
            other => panic!("{other:?}"),
        }
    }

    /// The next message of this type, whatever comes before it.
    pub fn said(&mut self, kind: &str) -> Value {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < BOUND, "no '{kind}'");
            match self.next() {
                Got::Said(message) if message["type"] == kind => return message,
                Got::Closed => panic!("closed before '{kind}'"),
                _ => {}
            }
        }
    }

    /// The next access unit, whatever comes before it.
    pub fn unit(&mut self) -> Unit {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < BOUND, "no unit");
            match self.next() {
                Got::Unit(unit) => return unit,
                Got::Closed => panic!("closed before a unit"),
                _ => {}
            }
        }
    }

    /// Units for so long.
    pub fn units(&mut self, span: Duration) -> Vec<Unit> {
        let (start, mut units) = (Instant::now(), Vec::new());
        while start.elapsed() < span {
            units.push(self.unit());
        }
        units
    }

    /// Reads to the end, and gives the last word.
    pub fn last_word(&mut self) -> String {
        let (start, mut last) = (Instant::now(), String::new());
        loop {
            assert!(start.elapsed() < BOUND, "no end; last heard: '{last}'");
            match self.next() {
                Got::Said(message) if message["type"] == "bye" => last = message["reason"].as_str().unwrap().into(),
                Got::Closed => return last,
                _ => {}
            }
        }
    }

    pub fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }
}

impl Unit {
    fn parse(message: &[u8]) -> Unit {
        let number = |at: usize, len: usize| message[at..at + len].iter().fold(0, |n, &byte| n << 8 | u64::from(byte));
        assert_eq!((number(0, 1), number(2, 2)), (1, 24), "version and header length");
        assert_eq!(message[1] & !1, 0, "flags");
        Unit {
            at: Instant::now(),
            key: message[1] == 1,
            sequence: number(4, 4) as u32,
            view: number(8, 4) as u32,
            captured_us: number(12, 8),
            encoded_after_us: number(20, 4) as u32,
            data: message[24..].to_vec(),
        }
    }
}

/// The gap between arrivals that 95 in 100 do not exceed.
pub fn p95_gap(units: &[Unit]) -> Duration {
    let mut gaps: Vec<Duration> = units.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    gaps.sort();
    gaps[gaps.len() * 95 / 100]
}
