//! `/ws`: video, state, figures and input over one WebSocket (`gsk.v1`).
//!
//! What is sent goes out on the thread that has it: the encoder's for video, as far as the kernel takes it without
//! waiting. Only what is left over wakes the session's own task. So a unit for many viewers costs little more than its
//! writes, each of one buffer that all of them share. Reading, and the protocol's rules for it, are the WebSocket library's.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::{Buf, Bytes};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tungstenite::Message;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::Input;
use super::connection::{Connection, STALLED};
use super::worker::{Seat, Worker, last_word};
use crate::clock::now_us;
use crate::error;
use crate::pipeline::broadcast::{Format, Packet, Ready, Viewer};
use crate::pipeline::encode::{self, Codec};
use crate::pipeline::queue::Item;
use crate::pipeline::sets::{self, Sets};
use crate::pipeline::stream::Snapshot;
use crate::pipeline::timing::Stage;
use crate::wire::message::{Ack, Client, Colour, Server};

/// The longest message that a viewer may send, bytes.
const MAX_MESSAGE: usize = 16 << 10;

/// Messages a second that a viewer may send, pings included; what is over is not read until the second has passed.
const MESSAGES: u32 = 500;

/// Texts that may wait for a viewer that does not read; the oldest go first.
const TEXTS: usize = 32;

/// What a viewer wants: `?video=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Video {
    H264,
    Hevc,
    Av1,
    Jpeg,
    /// State, figures and input only.
    None,
}

/// The query of `/ws`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    video: Option<Video>,
    /// Without video: that of the MP4 stream that is watched beside the session.
    codec: Option<encode::Main>,
}

/// Why a session ends.
enum Over {
    /// The viewer left, or its connection did.
    Gone,
    /// We end it, and say why.
    Bye(String),
}

/// One viewer's WebSocket.
pub struct Session {
    worker: Arc<Worker>,
    /// That of the video it gets, or has beside it.
    codec: Mutex<Codec>,
    /// Whether it gets any.
    pub video: bool,
    /// Whether it asked for no codec, and is given what this host can make.
    pub undecided: bool,
    stream: TcpStream,
    out: Mutex<Out>,
    /// Wakes the session's task: the kernel took no more, or the connection is gone.
    wake: Notify,
}

/// What is on its way to the viewer.
#[derive(Default)]
struct Out {
    undecided: bool,
    texts: VecDeque<Bytes>,
    seat: Option<Seat<Viewer>>,
    /// What the last `config` was about.
    governs: Option<Format>,
    /// A unit that waits for the `config` in front of it.
    held: Option<Arc<Packet>>,
    /// What the kernel has taken in part.
    partial: Option<Chunk>,
    /// Since when the kernel takes nothing.
    blocked: Option<Instant>,
    gone: bool,
}

/// Of a frame, what is still to be sent.
struct Chunk {
    frame: Bytes,
    /// Of video: when it was handed to the viewers.
    published_us: Option<u64>,
}

impl Chunk {
    /// Sends on; `Ok` when nothing is left.
    fn write(&mut self, stream: &TcpStream) -> io::Result<()> {
        while self.frame.has_remaining() {
            match stream.try_write(&self.frame)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                n => self.frame.advance(n),
            }
        }
        Ok(())
    }
}

/// A server's frame head (RFC 6455, 5.2): final, not masked.
fn head(opcode: OpCode, len: usize) -> Bytes {
    let mut head = Vec::with_capacity(10);
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    header.format(len as u64, &mut head).expect("a Vec takes all");
    head.into()
}

/// A whole text frame, to be shared by as many sessions as it is for.
pub fn text(message: &Server<'_>) -> Bytes {
    let json = serde_json::to_vec(message).expect("plain data");
    [&head(OpCode::Data(Data::Text), json.len())[..], &json].concat().into()
}

impl Out {
    /// What is to be sent next: what was begun, then texts, then video.
    fn next(&mut self, worker: &Worker) -> Option<Chunk> {
        if let Some(partial) = self.partial.take() {
            return Some(partial);
        }
        if let Some(text) = self.texts.pop_front() {
            return Some(Chunk { frame: text, published_us: None });
        }
        let packet = match self.held.take() {
            Some(packet) => packet,
            None => match self.seat.as_ref()?.viewer.try_next()? {
                Item::Drop(frames) => {
                    let text = text(&Server::Drop { frames });
                    return Some(Chunk { frame: text, published_us: None });
                }
                Item::Unit(packet) => packet,
            },
        };
        if let Some(config) = self.configure(worker, &packet) {
            self.held = Some(packet);
            return Some(Chunk { frame: config, published_us: None });
        }
        let frame = packet.framed(|len| head(OpCode::Data(Data::Binary), len)).clone();
        Some(Chunk { frame, published_us: Some(packet.published_us) })
    }

    /// What governs the units from here on, where that is new.
    fn configure(&mut self, worker: &Worker, packet: &Packet) -> Option<Bytes> {
        let format = packet.format()?;
        if self.governs.as_ref() == Some(&format) {
            return None;
        }
        let stream = worker.pipeline.stream(packet.codec).snapshot();
        let config = config(worker, &stream, &format, self.undecided)?;
        self.governs = Some(format);
        Some(config)
    }
}

/// What a stream's units are and what makes them; for one who asked for no codec, with why it is this one.
pub fn config(worker: &Worker, stream: &Snapshot, format: &Format, undecided: bool) -> Option<Bytes> {
    let info = if undecided { worker.encoder_instead(stream)? } else { worker.encoder(stream)? };
    let codec = format.sets.as_ref().map_or_else(|| "mjpeg".to_string(), Sets::codec_string);
    let colour = format.sets.as_ref().and_then(Sets::colour);
    Some(text(&Server::Config {
        codec: &codec,
        width: format.size.width,
        height: format.size.height,
        fps: worker.pipeline.fps(),
        colour: colour.map(|sets::Colour { primaries, transfer, matrix, full_range }| {
            Colour::of(primaries, transfer, matrix, full_range)
        }),
        backend: info.backend,
        hardware: info.hardware,
        fallback: info.fallback.as_ref(),
    }))
}

impl Session {
    /// Serves one viewer until it leaves or the worker ends. `read`: what came behind the handshake.
    pub async fn serve(worker: Arc<Worker>, wanted: Wanted, connection: Connection, read: Bytes) {
        let (stream, _place) = connection.into_parts();
        let codec = match wanted.video {
            Some(Video::Jpeg) => Codec::Jpeg,
            Some(Video::H264) => Codec::H264,
            Some(Video::Hevc) => Codec::Hevc,
            Some(Video::Av1) => Codec::Av1,
            Some(Video::None) => wanted.codec.map_or(worker.codec_beside(), Codec::from),
            None => worker.codec(),
        };
        let (video, undecided) = (wanted.video != Some(Video::None), wanted.video.is_none());
        let out = Mutex::new(Out { undecided, ..Out::default() });
        let codec = Mutex::new(codec);
        let session = Arc::new(Session { worker, codec, video, undecided, stream, out, wake: Notify::new() });
        // The seat first, so that the state of the greeting counts it; nothing is sent from there before the greeting.
        let seat = video.then(|| session.seat()).transpose();
        session.worker.greet(&session);
        let over = match seat {
            Ok(seat) => {
                session.out.lock().unwrap().seat = seat;
                session.pump();
                session.listen(read).await
            }
            Err(error) => Over::Bye(error.to_string()),
        };
        session.worker.sessions.remove(&session);
        if let Over::Bye(reason) = over {
            session.farewell(&reason).await;
        }
        session.leave();
    }

    /// Gives the seat back.
    fn leave(&self) {
        let seat = self.out.lock().unwrap().seat.take();
        drop(seat);
    }

    /// That of the video it gets, or has beside it.
    pub fn codec(&self) -> Codec {
        *self.codec.lock().unwrap()
    }

    /// The first message.
    pub fn hello(&self) {
        let settings = &self.worker.settings;
        let codecs = Codec::ALL.into_iter().filter(|&codec| self.worker.encodes(codec).is_ok());
        self.post(text(&Server::Hello {
            gsk: env!("CARGO_PKG_VERSION"),
            instance: &settings.instance_id,
            condition: &self.worker.condition().borrow(),
            source: &settings.source.name(),
            input: settings.input == Input::All,
            codecs: &codecs.map(Codec::name).collect::<Vec<_>>(),
            server_us: now_us(),
        }));
    }

    /// A place among the viewers.
    fn seat(self: &Arc<Self>) -> error::Result<Seat<Viewer>> {
        let codec = self.codec();
        self.worker.join_with(codec, self.ready())
    }

    /// What is called when something waits for it.
    fn ready(self: &Arc<Self>) -> Ready {
        let session: Weak<Session> = Arc::downgrade(self);
        Box::new(move || {
            if let Some(session) = session.upgrade() {
                session.pump();
            }
        })
    }

    /// Gives it another codec, from a key unit on.
    pub fn turn_to(self: &Arc<Self>, codec: Codec) {
        if self.codec() == codec {
            return;
        }
        let seat = {
            let mut out = self.out.lock().unwrap();
            out.held = None;
            out.seat.take()
        };
        // One that has no seat yet is asked again.
        let Some(seat) = seat else { return };
        let seat = self.worker.move_seat(seat, codec, self.ready());
        *self.codec.lock().unwrap() = codec;
        self.out.lock().unwrap().seat = Some(seat);
        self.pump();
    }

    /// Sends a whole frame, or lets it wait behind what does.
    pub fn post(&self, frame: Bytes) {
        let mut out = self.out.lock().unwrap();
        if out.texts.len() >= TEXTS {
            out.texts.pop_front();
        }
        out.texts.push_back(frame);
        drop(out);
        self.pump();
    }

    /// Sends what waits, as far as the kernel takes it. Never blocks.
    fn pump(&self) {
        let mut out = self.out.lock().unwrap();
        if out.blocked.is_some() || out.gone {
            return;
        }
        while let Some(mut chunk) = out.next(&self.worker) {
            match chunk.write(&self.stream) {
                Ok(()) => {
                    let now = now_us();
                    let sent = chunk.published_us.map(|at| now.saturating_sub(at));
                    sent.inspect(|&us| self.worker.pipeline.timing().record(Stage::Send, now, us));
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    out.partial = Some(chunk);
                    out.blocked = Some(Instant::now());
                }
                Err(_) => out.gone = true,
            }
            self.wake.notify_one();
            return;
        }
    }

    /// Reads what the viewer says, and sends on when the kernel takes more again.
    async fn listen(&self, read: Bytes) -> Over {
        let config = WebSocketConfig::default()
            .read_buffer_size(2 << 10)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let mut protocol = WebSocketContext::from_partially_read(read.into(), Role::Server, Some(config));
        let (mut budget, mut stopping) = (Budget::new(), self.worker.stopping());
        // What came behind the handshake makes no noise any more.
        if let Err(over) = self.read(&mut protocol, &mut budget) {
            return over;
        }
        loop {
            let (blocked, gone) = {
                let out = self.out.lock().unwrap();
                (out.blocked, out.gone)
            };
            if gone {
                return Over::Gone;
            }
            tokio::select! {
                Ok(()) = self.stream.readable(), if budget.left() => {
                    if let Err(over) = self.read(&mut protocol, &mut budget) {
                        return over;
                    }
                }
                () = budget.refill(), if !budget.left() => {}
                () = self.wake.notified() => {}
                Ok(()) = self.stream.writable(), if blocked.is_some() => {
                    self.out.lock().unwrap().blocked = None;
                    self.pump();
                }
                // The time runs anew with each write that gets on.
                () = sleep_until(blocked.unwrap_or_else(Instant::now) + STALLED), if blocked.is_some() => return Over::Gone,
                reason = last_word(&mut stopping) => return Over::Bye(reason),
            }
        }
    }

    /// Takes the messages that have come, as many as the budget allows.
    fn read(&self, protocol: &mut WebSocketContext, budget: &mut Budget) -> Result<(), Over> {
        while budget.left() {
            let mut wire = Wire { stream: &self.stream, replies: Vec::new() };
            let message = protocol.read(&mut wire);
            if !wire.replies.is_empty() {
                self.post(wire.replies.into());
            }
            match message {
                Ok(message) => {
                    budget.spend();
                    self.take(message)?;
                }
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Over::Gone),
            }
        }
        Ok(())
    }

    fn take(&self, message: Message) -> Result<(), Over> {
        let text = match message {
            Message::Text(text) => text,
            // The library has answered those that want an answer; after a close its next read is an error.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => return Ok(()),
            Message::Binary(_) => return Err(Over::Bye("binary messages are not part of gsk.v1".into())),
        };
        let client: Client =
            serde_json::from_str(&text).map_err(|error| Over::Bye(format!("not a gsk.v1 message: {error}")))?;
        let steers = self.worker.settings.input == Input::All;
        match client {
            Client::Ping { t } => self.post(self::text(&Server::Pong { t, server_us: now_us() })),
            Client::Ack(ack) => self.record(&ack),
            Client::Input(input) if steers => self.worker.pipeline.input(input),
            Client::Quality { bitrate_bps } if steers => {
                let most = self.worker.settings.bitrate.max(100_000);
                self.worker.pipeline.set_bitrate(bitrate_bps.clamp(100_000, most));
            }
            Client::Input(_) | Client::Quality { .. } => {}
            // Without video it is asked for the MP4 stream beside this session.
            Client::Keyframe => self.worker.pipeline.stream(self.codec()).ask_idr(),
        }
        Ok(())
    }

    fn record(&self, ack: &Ack) {
        let (now, timing) = (now_us(), self.worker.pipeline.timing());
        let measured = [
            (Stage::Network, ack.network_us),
            (Stage::Decode, ack.decode_us),
            (Stage::Paint, ack.paint_us),
            (Stage::Total, ack.total_us),
            (Stage::Input, ack.view_us),
        ];
        for (stage, value) in measured {
            // What is outside an hour was not measured, whatever the viewer says.
            if let Some(us) = value.filter(|us| (0.0..3.6e9).contains(us)) {
                timing.record(stage, now, us as u64);
            }
        }
    }

    /// Says why it ends, and closes, if the viewer takes it soon.
    async fn farewell(&self, reason: &str) {
        // Video that still waits is worth less than the word.
        self.leave();
        self.post(text(&Server::Bye { reason }));
        let reason = short(reason);
        let mut close = head(OpCode::Control(Control::Close), 2 + reason.len()).to_vec();
        close.extend_from_slice(&u16::from(CloseCode::Away).to_be_bytes());
        close.extend_from_slice(reason.as_bytes());
        self.post(close.into());
        let sent = async {
            while self.out.lock().unwrap().blocked.is_some() && self.stream.writable().await.is_ok() {
                self.out.lock().unwrap().blocked = None;
                self.pump();
            }
        };
        let _ = timeout(Duration::from_millis(200), sent).await;
    }
}

/// What the library reads from, without waiting, and where its answers to pings and closes go.
struct Wire<'a> {
    stream: &'a TcpStream,
    replies: Vec<u8>,
}

impl Read for Wire<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(into)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.replies.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As much of a reason as a close frame holds (RFC 6455, 5.5: 125 bytes, two of which are the code).
fn short(reason: &str) -> &str {
    let end = (0..=reason.len().min(123)).rev().find(|&at| reason.is_char_boundary(at));
    &reason[..end.unwrap_or(0)]
}

/// How many messages may still be read in this second.
struct Budget {
    left: u32,
    until: Instant,
}

impl Budget {
    fn new() -> Budget {
        Budget { left: MESSAGES, until: Instant::now() + Duration::from_secs(1) }
    }

    fn left(&self) -> bool {
        self.left > 0
    }

    fn spend(&mut self) {
        if Instant::now() >= self.until {
            *self = Budget::new();
        }
        self.left -= 1;
    }

    async fn refill(&mut self) {
        sleep_until(self.until).await;
        *self = Budget::new();
    }
}
