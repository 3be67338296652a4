//! `/ws`: video, state, figures and input over one WebSocket (`gsk.v1`).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Input;
use super::worker::{Seat, Worker, last_word};
use crate::clock::now_us;
use crate::pipeline::broadcast::Packet;
use crate::pipeline::encode::Codec;
use crate::pipeline::frame::Size;
use crate::pipeline::h264::ParameterSets;
use crate::pipeline::queue::Item;
use crate::pipeline::timing::Stage;
use crate::wire::message::{Ack, Client, Colour, Server};

/// The longest message that a viewer may send, bytes.
pub const MAX_MESSAGE: usize = 16 << 10;

/// Messages a second that a viewer may send, pings included; what is over is not read until the second has passed.
const MESSAGES: u32 = 500;

/// What a viewer wants: `?video=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Video {
    H264,
    Jpeg,
    /// State, figures and input only.
    None,
}

/// Why a session ends.
enum Over {
    /// The viewer left, or its connection did.
    Gone,
    /// We end it, and say why.
    Bye(String),
}

type Done = Result<(), Over>;

/// Serves one viewer until it leaves or the worker ends.
pub async fn session(worker: Arc<Worker>, stats: watch::Receiver<Utf8Bytes>, video: Option<Video>, socket: WebSocket) {
    worker.sessions.send_modify(|open| *open += 1);
    let mut session = Session { worker: worker.clone(), socket, governs: None, budget: Budget::new() };
    if let Err(Over::Bye(reason)) = session.run(stats, video).await {
        let farewell = async {
            session.say(&Server::Bye { reason: &reason }).await.ok();
            let close = CloseFrame { code: close_code::AWAY, reason: short(&reason).into() };
            session.socket.send(Message::Close(Some(close))).await.ok();
        };
        timeout(Duration::from_millis(200), farewell).await.ok();
    }
    worker.sessions.send_modify(|open| *open -= 1);
}

struct Session {
    worker: Arc<Worker>,
    socket: WebSocket,
    /// What the last `config` was about.
    governs: Option<(Size, Option<ParameterSets>)>,
    budget: Budget,
}

impl Session {
    async fn run(&mut self, mut stats: watch::Receiver<Utf8Bytes>, video: Option<Video>) -> Done {
        let worker = self.worker.clone();
        let (mut condition, mut stopping) = (worker.condition(), worker.stopping());
        // The figures there are may be those of long ago.
        stats.mark_unchanged();
        let hello = condition.borrow_and_update().clone();
        self.say(&Server::Hello {
            gsk: env!("CARGO_PKG_VERSION"),
            instance: &worker.settings.instance_id,
            condition: &hello,
            source: &worker.settings.source.name(),
            input: worker.settings.input == Input::All,
            server_us: now_us(),
        })
        .await?;
        let seat = self.seat(video)?;
        loop {
            // In no fixed order: neither video nor a viewer's messages can keep the other from its turn.
            tokio::select! {
                item = next(seat.as_ref()) => match item {
                    Some(item) => self.send(item).await?,
                    None => return Err(Over::Bye(last_word(&mut stopping).await)),
                },
                message = self.socket.recv(), if self.budget.left() => match message {
                    Some(Ok(message)) => self.take(message, seat.as_ref()).await?,
                    Some(Err(_)) | None => return Err(Over::Gone),
                },
                _ = self.budget.refill(), if !self.budget.left() => {}
                Ok(()) = condition.changed() => {
                    let now = condition.borrow_and_update().clone();
                    self.say(&Server::State(&now)).await?;
                }
                Ok(()) = stats.changed() => {
                    let now = stats.borrow_and_update().clone();
                    self.put(Message::Text(now)).await?;
                }
                reason = last_word(&mut stopping) => return Err(Over::Bye(reason)),
            }
        }
    }

    /// A place among the viewers of what was asked for, or of the worker's own codec.
    fn seat(&self, video: Option<Video>) -> Result<Option<Seat>, Over> {
        let codec = match video {
            Some(Video::None) => return Ok(None),
            Some(Video::Jpeg) => Codec::Jpeg,
            Some(Video::H264) => Codec::H264,
            None => self.worker.settings.encoder.codec(),
        };
        self.worker.join(codec).map(Some).map_err(|error| Over::Bye(error.to_string()))
    }

    async fn send(&mut self, item: Item) -> Done {
        let packet = match item {
            Item::Drop(frames) => return self.say(&Server::Drop { frames }).await,
            Item::Unit(packet) => packet,
        };
        self.configure(&packet).await?;
        self.put(Message::Binary(packet.message.clone())).await?;
        let now = now_us();
        self.worker.pipeline.timing().record(Stage::Send, now, now.saturating_sub(packet.published_us));
        Ok(())
    }

    /// Says what governs the units from here on, where that is new.
    async fn configure(&mut self, packet: &Packet) -> Done {
        let governs = Some((packet.size, packet.sets.clone()));
        if !packet.key || self.governs == governs {
            return Ok(());
        }
        let stream = self.worker.pipeline.stream(packet.codec).snapshot();
        let Some(info) = self.worker.encoder(&stream) else { return Ok(()) };
        let codec = packet.sets.as_ref().map_or_else(|| "mjpeg".to_string(), ParameterSets::codec_string);
        self.governs = governs;
        self.say(&Server::Config {
            codec: &codec,
            width: packet.size.width,
            height: packet.size.height,
            fps: self.worker.pipeline.fps(),
            colour: packet.sets.as_ref().map(|_| Colour::BT709_LIMITED),
            backend: info.backend,
            hardware: info.hardware,
            fallback: info.fallback.as_ref(),
        })
        .await
    }

    async fn take(&mut self, message: Message, seat: Option<&Seat>) -> Done {
        self.budget.spend();
        let text = match message {
            Message::Text(text) => text,
            Message::Close(_) => return Err(Over::Gone),
            // Pings are answered by the library; nothing binary is expected.
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Binary(_) => return Err(Over::Bye("binary messages are not part of gsk.v1".into())),
        };
        let client: Client =
            serde_json::from_str(&text).map_err(|error| Over::Bye(format!("not a gsk.v1 message: {error}")))?;
        let steers = self.worker.settings.input == Input::All;
        match client {
            Client::Ping { t } => self.say(&Server::Pong { t, server_us: now_us() }).await?,
            Client::Ack(ack) => self.record(&ack),
            Client::Input(input) if steers => self.worker.pipeline.input(input),
            Client::Quality { bitrate_bps } if steers => {
                let range = 100_000..=self.worker.settings.bitrate.max(100_000);
                self.worker.pipeline.set_bitrate(bitrate_bps.clamp(*range.start(), *range.end()));
            }
            Client::Input(_) | Client::Quality { .. } => {}
            Client::Keyframe => seat.iter().for_each(|seat| seat.viewer.ask_key()),
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

    async fn say(&mut self, message: &Server<'_>) -> Done {
        self.put(text(message)).await
    }

    /// Returns when the socket has taken it.
    async fn put(&mut self, message: Message) -> Done {
        self.socket.send(message).await.map_err(|_| Over::Gone)
    }
}

/// As much of a reason as a close frame holds (RFC 6455, 5.5: 125 bytes, two of which are the code).
fn short(reason: &str) -> &str {
    let end = (0..=reason.len().min(123)).rev().find(|&at| reason.is_char_boundary(at));
    &reason[..end.unwrap_or(0)]
}

fn text(message: &Server<'_>) -> Message {
    Message::Text(serde_json::to_string(message).expect("plain data").into())
}

/// The next item of a viewer; for a session without video, never.
async fn next(seat: Option<&Seat>) -> Option<Item> {
    match seat {
        Some(seat) => seat.viewer.next().await,
        None => std::future::pending().await,
    }
}

/// How many messages may still be read in this second.
struct Budget {
    left: u32,
    until: tokio::time::Instant,
}

impl Budget {
    fn new() -> Budget {
        Budget { left: MESSAGES, until: tokio::time::Instant::now() + Duration::from_secs(1) }
    }

    fn left(&self) -> bool {
        self.left > 0
    }

    fn spend(&mut self) {
        if tokio::time::Instant::now() >= self.until {
            *self = Budget::new();
        }
        self.left -= 1;
    }

    async fn refill(&mut self) {
        tokio::time::sleep_until(self.until).await;
        *self = Budget::new();
    }
}
