//! A plain HTTP/1.1 client: one request a connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub struct Answer {
    pub code: u16,
    headers: Vec<(String, String)>,
    body: BufReader<TcpStream>,
    chunked: bool,
    /// Of the body, or of its current chunk.
    left: u64,
}

pub fn get(addr: SocketAddr, path: &str) -> Answer {
    request(addr, "GET", path, &[])
}

/// `Host` is the address unless a header says otherwise.
pub fn request(addr: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head += &format!("Host: {addr}\r\n");
    }
    headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    stream.write_all((head + "\r\n").as_bytes()).unwrap();
    Answer::read(stream, method == "HEAD")
}

impl Answer {
    pub fn read(stream: TcpStream, head_only: bool) -> Answer {
        let mut body = BufReader::new(stream);
        let code = line(&mut body).split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = line(&mut body);
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_string()));
        }
        let mut answer = Answer { code, headers, body, chunked: false, left: 0 };
        if !head_only {
            answer.chunked = answer.header("transfer-encoding") == Some("chunked");
            let length = answer.header("content-length").map(|length| length.parse().unwrap());
            answer.left = if answer.chunked { 0 } else { length.unwrap_or(0) };
        }
        answer
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    pub fn text(self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }

    /// The whole body.
    pub fn bytes(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).unwrap();
        bytes
    }

    pub fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.text()).unwrap()
    }
}

/// A line without its end.
pub fn line(stream: &mut impl BufRead) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line.trim_end().to_string()
}

impl Read for Answer {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.chunked && self.left == 0 {
            self.left = u64::from_str_radix(&line(&mut self.body), 16).map_err(std::io::Error::other)?;
            // The last chunk is empty, and an empty line follows it.
            self.chunked = self.left > 0;
        }
        let n = (&mut self.body).take(self.left).read(into)?;
        self.left -= n as u64;
        if self.chunked && self.left == 0 {
            line(&mut self.body);
        }
        Ok(n)
    }
}
