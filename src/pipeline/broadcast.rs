//! From one encoder to many viewers: units shared by reference, a bounded queue for each viewer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use tokio::sync::Notify;

use super::encode::{Codec, Unit};
use super::frame::Size;
use super::queue::{Item, Queue};
use super::sets::{self, Sets};
use crate::wire::message::{HEADER, Header};

/// An access unit as every viewer gets it. Each form of it is made once.
#[derive(Debug)]
pub struct Packet {
    pub codec: Codec,
    pub key: bool,
    pub sequence: u32,
    pub size: Size,
    pub captured_us: u64,
    pub published_us: u64,
    pub times: Times,
    /// Which of the stream's encoders made it, counted from 1.
    pub encoder: u32,
    /// The `gsk.v1` header and the access unit.
    pub message: Bytes,
    /// Parameter sets, with a key unit of a codec that has them.
    pub sets: Option<Sets>,
    sample: OnceLock<Bytes>,
    framed: OnceLock<Bytes>,
}

/// When what was done to a picture, µs on [`crate::clock::now_us`]'s clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// Capture's begin and end.
    pub captured_us: (u64, u64),
    /// When the encoder took it, had its pixels converted, and had the unit.
    pub started_us: u64,
    pub converted_us: u64,
    pub encoded_us: u64,
}

/// What a key unit and those behind it are.
#[derive(Clone, Debug, PartialEq)]
pub struct Format {
    pub size: Size,
    /// Which of the stream's encoders makes them, counted from 1.
    pub encoder: u32,
    /// Of a codec that has them.
    pub sets: Option<Sets>,
}

impl Packet {
    /// Wraps an encoder's unit: writes the header into the room in front of it.
    pub fn new(codec: Codec, encoder: u32, sequence: u32, mut unit: Unit, published_us: u64) -> Packet {
        let captured_us = unit.frame.captured_us.0;
        let times = Times {
            captured_us: unit.frame.captured_us,
            started_us: unit.started_us,
            converted_us: unit.converted_us,
            encoded_us: unit.encoded_us,
        };
        let encoded_after_us = unit.encoded_us.saturating_sub(captured_us).try_into().unwrap_or(u32::MAX);
        Header { key: unit.key, sequence, view: unit.frame.view, captured_us, encoded_after_us }.write(&mut unit.data);
        let message = unit.data.freeze();
        let sets = unit.key.then(|| Sets::find(codec, &message[HEADER..])).flatten();
        let (key, size) = (unit.key, unit.frame.size);
        let (sample, framed) = Default::default();
        Packet { codec, key, sequence, size, captured_us, published_us, times, encoder, message, sets, sample, framed }
    }

    /// A packet as a viewer has received it.
    ///
    /// `message`: [`HEADER`] bytes of a header, and the access unit.
    pub fn received(codec: Codec, size: Size, header: &Header, message: Bytes) -> Packet {
        let sets = header.key.then(|| Sets::find(codec, &message[HEADER..])).flatten();
        Packet {
            codec,
            key: header.key,
            sequence: header.sequence,
            size,
            captured_us: header.captured_us,
            published_us: 0,
            encoder: 0,
            times: Times::default(),
            message,
            sets,
            sample: OnceLock::new(),
            framed: OnceLock::new(),
        }
    }

    /// What it is, of a key unit.
    pub fn format(&self) -> Option<Format> {
        self.key.then(|| Format { size: self.size, encoder: self.encoder, sets: self.sets.clone() })
    }

    /// The bare access unit: Annex B, a temporal unit of AV1, or one JPEG.
    pub fn unit(&self) -> Bytes {
        self.message.slice(HEADER..)
    }

    /// The message behind the head that a transport gives one of that length: made once, so that each viewer's is one write.
    pub fn framed(&self, head: impl FnOnce(usize) -> Bytes) -> &Bytes {
        self.framed.get_or_init(|| [&head(self.message.len())[..], &self.message].concat().into())
    }

    /// The access unit as MP4 has it.
    pub fn sample(&self) -> &Bytes {
        self.sample.get_or_init(|| sets::to_sample(self.codec, &self.message[HEADER..]))
    }
}

/// All viewers of one codec.
#[derive(Default)]
pub struct Broadcast {
    /// Copied when it changes, so that a unit is handed out without holding the lock.
    viewers: Mutex<Arc<Vec<Arc<Outlet>>>>,
    closed: AtomicBool,
    /// Units that left viewers took to have dropped with them.
    dropped_by_left: AtomicU64,
}

/// What is called when something waits for a viewer: on the encoder's thread, so it must not block. It may send what
/// waits itself, as far as that goes without waiting.
pub type Ready = Box<dyn Fn() + Send + Sync>;

/// The broadcast's half of a viewer.
struct Outlet {
    queue: Mutex<Queue>,
    ready: Ready,
}

impl Broadcast {
    /// Hands a unit to every viewer. Never waits for one.
    pub fn publish(&self, packet: Packet) {
        let packet = Arc::new(packet);
        let viewers = self.viewers.lock().unwrap().clone();
        for viewer in viewers.iter() {
            viewer.queue.lock().unwrap().push(&packet);
            (viewer.ready)();
        }
    }

    /// Ends every viewer's stream once it has read what waits, that of later ones at once.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let viewers = self.viewers.lock().unwrap().clone();
        viewers.iter().for_each(|viewer| (viewer.ready)());
    }

    pub fn viewers(&self) -> usize {
        self.viewers.lock().unwrap().len()
    }

    /// Units that viewers skipped, those of viewers that left included.
    pub fn dropped(&self) -> u64 {
        let viewers = self.viewers.lock().unwrap();
        let current: u64 = viewers.iter().map(|viewer| viewer.queue.lock().unwrap().dropped).sum();
        self.dropped_by_left.load(Ordering::Relaxed) + current
    }

    pub(super) fn join(self: &Arc<Self>, ready: Ready, ask_key: Ready, left: Ready) -> Viewer {
        let outlet = Arc::new(Outlet { queue: Mutex::default(), ready });
        Arc::make_mut(&mut self.viewers.lock().unwrap()).push(outlet.clone());
        Viewer { broadcast: self.clone(), outlet, ask_key, left }
    }
}

/// A viewer's end of a broadcast. Dropping it leaves.
pub struct Viewer {
    broadcast: Arc<Broadcast>,
    outlet: Arc<Outlet>,
    ask_key: Ready,
    left: Ready,
}

/// A viewer that waits for its items.
pub struct Waiting {
    viewer: Viewer,
    ready: Arc<Notify>,
}

impl Waiting {
    pub(super) fn new(join: impl FnOnce(Ready) -> Viewer) -> Waiting {
        let ready = Arc::new(Notify::new());
        let notify = ready.clone();
        Waiting { viewer: join(Box::new(move || notify.notify_one())), ready }
    }

    /// The next item, or `None` when the stream has ended. Asking for it tells that the viewer is ready to read on.
    pub async fn next(&self) -> Option<Item> {
        loop {
            // What was published before the end is in the queue by now.
            let closed = self.viewer.closed();
            let item = self.viewer.try_next();
            if item.is_some() || closed {
                return item;
            }
            self.ready.notified().await;
        }
    }
}

impl std::ops::Deref for Waiting {
    type Target = Viewer;
    fn deref(&self) -> &Viewer {
        &self.viewer
    }
}

impl Viewer {
    /// Whether no more will be published.
    pub fn closed(&self) -> bool {
        self.broadcast.closed.load(Ordering::Acquire)
    }

    /// The next item, if one waits now.
    pub fn try_next(&self) -> Option<Item> {
        let (item, wants_key) = {
            let mut queue = self.outlet.queue.lock().unwrap();
            (queue.pop(), queue.wants_key(crate::clock::now_us()))
        };
        if wants_key {
            (self.ask_key)();
        }
        item
    }

    /// Asks for a key unit; the encoder limits how often it gives one.
    pub fn ask_key(&self) {
        (self.ask_key)();
    }

    pub fn dropped(&self) -> u64 {
        self.outlet.queue.lock().unwrap().dropped
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let mut viewers = self.broadcast.viewers.lock().unwrap();
        Arc::make_mut(&mut viewers).retain(|viewer| !Arc::ptr_eq(viewer, &self.outlet));
        self.broadcast.dropped_by_left.fetch_add(self.dropped(), Ordering::Relaxed);
        drop(viewers);
        (self.left)();
    }
}

#[cfg(test)]
pub(super) fn packet(sequence: u32, key: bool, len: usize) -> Arc<Packet> {
    Arc::new(Packet {
        codec: Codec::H264,
        key,
        sequence,
        size: Size::new(16, 16),
        captured_us: 0,
        published_us: 0,
        times: Times::default(),
        encoder: 1,
        message: vec![0; len].into(),
        sets: None,
        sample: OnceLock::new(),
        framed: OnceLock::new(),
    })
}
