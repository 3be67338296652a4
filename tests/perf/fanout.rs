//! Many viewers at once, and the bare loop of socket writes that they are measured against.
//!
//!     perf-fanout watch ADDR VIEWERS SECONDS [PID]   opens /ws so often, reads, prints a JSON line; PID: whose CPU and memory
//!     perf-fanout send VIEWERS BYTES FPS SECONDS     listens, writes BYTES FPS times a second to each; prints its address, then JSON
//!     perf-fanout take ADDR VIEWERS SECONDS          reads from the bare loop

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[derive(Default)]
struct Counts {
    bytes: AtomicU64,
    units: AtomicU64,
    drops: AtomicU64,
    open: AtomicU64,
}

/// Counts what a server's WebSocket frames are (RFC 6455, 5.2), keeping no more of them than their heads.
#[derive(Default)]
struct Frames {
    head: Vec<u8>,
    left: u64,
    text: Option<Vec<u8>>,
}

impl Frames {
    fn feed(&mut self, mut bytes: &[u8], counts: &Counts) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let n = self.left.min(bytes.len() as u64);
                if let Some(text) = &mut self.text {
                    text.extend_from_slice(&bytes[..n as usize]);
                }
                self.left -= n;
                bytes = &bytes[n as usize..];
            } else {
                self.head.push(bytes[0]);
                bytes = &bytes[1..];
                self.begin(counts);
            }
            if self.left == 0 && self.text.as_ref().is_some_and(|text| text.starts_with(br#"{"type":"drop""#)) {
                counts.drops.fetch_add(1, Relaxed);
                self.text = None;
            }
        }
    }

    fn begin(&mut self, counts: &Counts) {
        let need = match self.head.get(1).map(|b| b & 127) {
            None => return,
            Some(126) => 4,
            Some(127) => 10,
            Some(_) => 2,
        };
        if self.head.len() < need {
            return;
        }
        self.left = match need {
            2 => u64::from(self.head[1] & 127),
            _ => self.head[2..need].iter().fold(0, |n, &b| n << 8 | u64::from(b)),
        };
        let opcode = self.head[0] & 15;
        self.text = (opcode == 1).then(Vec::new);
        if opcode == 2 {
            counts.units.fetch_add(1, Relaxed);
        }
        self.head.clear();
    }
}

async fn view(address: SocketAddr, websocket: bool, counts: Arc<Counts>) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let mut buffer = vec![0; 32 << 10];
    let mut frames = Frames::default();
    if websocket {
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: gsk.v1\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        if !head.starts_with(b"HTTP/1.1 101") {
            return Err(std::io::Error::other(String::from_utf8_lossy(&head).into_owned()));
        }
    }
    counts.open.fetch_add(1, Relaxed);
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => {
                counts.bytes.fetch_add(n as u64, Relaxed);
                if websocket {
                    frames.feed(&buffer[..n], &counts);
                }
            }
        }
    }
}

/// CPU seconds of a process and its resident memory, KiB.
fn usage(pid: &str) -> Outcome<(f64, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_ascii_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    Ok((ticks / 100.0, rss.trim().trim_end_matches(" kB").parse()?))
}

#[tokio::main(flavor = "current_thread")]
async fn watch(address: SocketAddr, viewers: u64, seconds: f64, websocket: bool, pid: Option<&str>) -> Outcome<()> {
    let counts = Arc::new(Counts::default());
    for _ in 0..viewers {
        let counts = counts.clone();
        tokio::spawn(async move {
            if let Err(error) = view(address, websocket, counts).await {
                eprintln!("viewer: {error}");
            }
        });
        tokio::task::yield_now().await;
    }
    // Everybody is in, and the first key units are through.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let read = || [&counts.bytes, &counts.units, &counts.drops].map(|count| count.load(Relaxed));
    let (before, used) = (read(), pid.map(usage).transpose()?);
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let took = began.elapsed().as_secs_f64();
    let (after, using) = (read(), pid.map(usage).transpose()?);
    let per_viewer = |i: usize| (after[i] - before[i]) as f64 / took / viewers as f64;
    let cpu = using.zip(used).map(|(now, then)| 100.0 * (now.0 - then.0) / took);
    println!(
        "{}",
        serde_json::json!({
            "viewers": viewers, "open": counts.open.load(Relaxed), "bps_per_viewer": per_viewer(0) * 8.0,
            "units_per_s": per_viewer(1), "drops": after[2], "cpu_pct": cpu, "rss_kib": using.map(|u| u.1),
        })
    );
    Ok(())
}

fn send(viewers: usize, bytes: usize, fps: f64, seconds: f64) -> Outcome<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    let mut streams = Vec::new();
    for stream in listener.incoming().take(viewers) {
        let stream = stream?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let message = vec![0x5a; bytes];
    let (began, frames) = (Instant::now(), (fps * (seconds + 3.0)) as u32);
    for frame in 0..frames {
        let due = began + Duration::from_secs_f64(f64::from(frame) / fps);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        for stream in &mut streams {
            if stream.write_all(&message).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["watch", address, viewers, seconds, ref pid @ ..] => {
            watch(address.parse()?, viewers.parse()?, seconds.parse()?, true, pid.first().copied())
        }
        ["take", address, viewers, seconds, ref pid @ ..] => {
            watch(address.parse()?, viewers.parse()?, seconds.parse()?, false, pid.first().copied())
        }
        ["send", viewers, bytes, fps, seconds] => {
            send(viewers.parse()?, bytes.parse()?, fps.parse()?, seconds.parse()?)
        }
        _ => Err("use: see the head of fanout.rs".into()),
    }
}
