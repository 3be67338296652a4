//! gsk, the GPU Streaming Kit: any GPU worker's pixels in any browser.
//!
//! One crate: this library, and a thin binary (`src/main.rs`) that parses a command line and calls it.
//!
//! # The floors
//!
//! A module imports only from floors below its own, never sideways on the same floor.
//!
//! ```text
//! 7  cli        clap definitions, one file a command: parse, call, print
//! 6  doctor     who holds the encoder sessions, and why; what dead owners left, and ending it
//!    bench      where the time goes: cases over the pipeline, statistics, baselines, gates, reports
//! 5  serve      one worker over the network: HTTP, WebSocket, MP4, JPEG; who may talk to it; the viewer page
//!    client     the other end: reads a worker's /status, watches and measures its streams
//!    container  a container engine; vendors' programs as managed streams, which differ in data
//!    profile    a training program under nsys, or our own collector; the built-in training run
//! 4  pipeline   source -> newest frame -> encoder -> broadcast; decoders; timing
//! 3  gpu        what the machine has, loaded at run time: NVML, the table of boards; EGL, CUDA, NVENC, NVDEC, nvJPEG
//! 2  lease      encoder slots across processes; how many there are is an argument
//! 1  wire       pure types of what crosses a process: /status, gsk.v1 messages, input events, lease records
//! 0  output error exit signals config clock child proc range
//! ```
//!
//! # The road of one frame
//!
//! ```text
//!  source's thread               encoder's thread, one a codec        net threads (tokio)          browser
//! +-----------------+  newest  +----------------------------+  Packet  +----------------+  TCP  +------------------+
//! | scene | - |     |  frame   | cadence: encode? IDR?      |  shared  | Queue a viewer |       | WebCodecs worker |
//! | program | file  | -------> | convert -> NVENC, OpenH264 |--------->| ws | mp4 |     |------>| -> <video>       |
//! |  Frame          |  wins    |  or JPEG; Unit -> Packet   |          | h264 | mjpeg   |       | or MSE, or MJPEG |
//! +-----------------+          +----------------------------+          +----------------+       +------------------+
//!        ^   input events, bit rate, key frame asks                            |
//!        +---------------------------------------------------------------------+
//! ```
//!
//! 1. **Capture.** [`pipeline::source`]: the source's thread draws a frame at a deadline ([`clock::Pacer`]) while somebody
//!    watches, or reads one from a pipe whether anybody does or not, so that its writer never blocks. A
//!    [`Frame`](pipeline::frame::Frame) carries its capture times, and the number of the newest input event that it shows.
//!    What OpenGL drew on a CUDA device stays there ([`gpu::interop::Capture`]): its pixels lie in device memory, and the
//!    encoder is opened on that device if it may be. Once nobody watches, that memory is given back.
//! 2. **Newest wins.** The frame is put into the slot in front of each watched codec's encoder
//!    ([`pipeline::stream`]). One that still lies there is replaced and counted: frames are dropped before the encoder,
//!    never inside a group of pictures.
//! 3. **Encode or not.** `pipeline::cadence`, which reads no clock, decides: a new picture at once; one that equals the
//!    last not at all, but for a keepalive; an IDR for one who joins, though not too often.
//! 4. **Convert and encode.** [`pipeline::convert`], by the CPU or, where the pixels lie on a device, by that device
//!    ([`gpu::convert`]); then a back end of [`pipeline::encode`]'s table: one access unit out for each frame in, written
//!    behind room for its header. NVENC takes its frames on this thread and gives its units on another. Its session is
//!    opened with an encoder slot of the machine in hand ([`lease`]); where none is free the stream waits, or another back
//!    end stands in. nvJPEG ([`gpu::nvjpeg`]) needs neither engine nor slot. JPEG's quality follows the bit rate
//!    ([`pipeline::rate`]); viewers that ask for no codec get JPEG where H.264 is too slow for the host
//!    ([`pipeline::lane`]).
//! 5. **Broadcast.** [`pipeline::broadcast`] writes the `gsk.v1` header into that room ([`wire::message::Header`]) and hands
//!    the one packet to every viewer's [`pipeline::queue`]. A viewer whose queue is full skips to the next IDR, and is
//!    told; it delays nobody else.
//! 6. **Send.** A task for each viewer writes the packet to its WebSocket (`serve::ws`), or wraps it into MP4
//!    fragments ([`pipeline::mp4`]), a bare H.264 stream, or multipart JPEG (`serve::streams`).
//! 7. **Paint.** The page (`serve/web/`): `app.js` owns the socket, `worker.js` decodes with WebCodecs and writes the
//!    pictures into a track that a `<video>` shows; `players.js` holds this way and the two that it falls back to.
//!    It measures the clocks' offset in band and reports what it saw, so that [`pipeline::timing`] knows all stages.
//!
//! # What holds everywhere
//!
//! - Nothing runs while nobody watches, but a program that feeds us, which runs from start to end.
//! - Pure cores, thin edges: `queue`, `cadence`, `rate`, `lane`, `mp4`, `h264`, `timing`, the pacer, the gate, the slots' broker, what an
//!   inventory means, what is to be cleaned up, and a bench's statistics and gates take time and facts as arguments, and are
//!   tested as tables of scenarios.
//! - A program that gsk starts never outlives it ([`child`]).
//! - Errors say what failed, why, and what to run ([`error`]); each kind has its exit code ([`exit`]).
//! - Stages are named ranges of time for whatever profiler listens ([`range`]).
//! - Settings know where they came from ([`config`]); standard output is data, standard error messages ([`output`]).

pub mod bench;
pub mod child;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod container;
pub mod doctor;
pub mod error;
pub mod exit;
pub mod gpu;
pub mod lease;
pub mod output;
pub mod pipeline;
pub mod proc;
pub mod profile;
pub mod range;
pub mod serve;
pub mod signals;
pub mod wire;

#[cfg(test)]
#[path = "../tests/fuzz/mod.rs"]
mod fuzz;
