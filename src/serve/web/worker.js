// Decodes access units and hands each picture to the sink at once: a video track's generator, or a canvas.
// The page holds the socket (it opens while this thread still starts) and passes every buffer on without a copy.
'use strict';

const MAX_QUEUE = 8;      // more than this waits for the decoder: it is behind
const MAX_BEHIND = 150;   // ms of being behind without a break: skip to the next key frame. A burst after a hiccup is worked off
                          // sooner than that, and costs no key frame on a line that has just been short.
const MAX_WRITES = 3;     // more than this waits for the track: only the newest is kept

let decoder = null, config = null, configured = '';
let writer = null, canvas = null, context = null;
let software = false, needKey = true, decoded = 0, behindSince = 0;
let writes = 0, held = null;
let times = [], reported = 0;

const now = () => performance.timeOrigin + performance.now();

function report(force) {
  const t = now();
  if (!times.length || (!force && t - reported < 250)) return;
  reported = t;
  const batch = Float64Array.from(times);
  times = [];
  postMessage({ times: batch, queue: decoder ? decoder.decodeQueueSize : 0 }, [batch.buffer]);
}

function write(frame) {
  if (writes >= MAX_WRITES) {
    if (held) held.close();
    held = frame;
    return;
  }
  writes++;
  writer.write(frame).then(wrote, error => { frame.close(); wrote(); postMessage({ failed: `the video track ended: ${error && error.message}` }); });
}
function wrote() {
  writes--;
  if (!held) return;
  const frame = held;
  held = null;
  write(frame);
}

function paint(frame) {
  // While older access units wait in the decoder a newer picture is on its way: this one is stale.
  if (decoder.decodeQueueSize > 2) return frame.close();
  if (canvas.width !== frame.displayWidth || canvas.height !== frame.displayHeight) {
    canvas.width = frame.displayWidth;
    canvas.height = frame.displayHeight;
  }
  context.drawImage(frame, 0, 0);
  frame.close();
}

function output(frame) {
  const { timestamp } = frame, at = now();
  if (writer) write(frame); else paint(frame);
  times.push(timestamp, at, writer ? NaN : now());
  if (decoded++ === 0) postMessage({ first: true, software });
  report(decoded === 1);
}

function configure() {
  const { codec, colour, width, height } = config;
  const key = JSON.stringify([codec, colour, width, height, software]);
  if (key === configured && decoder && decoder.state === 'configured') return;
  if (!decoder || decoder.state === 'closed') decoder = new VideoDecoder({ output, error: fail });
  decoded = 0;
  needKey = true;
  configured = key;
  decoder.configure({
    codec, codedWidth: width, codedHeight: height, optimizeForLatency: true,
    hardwareAcceleration: software ? 'prefer-software' : 'no-preference', ...(colour && { colorSpace: colour }),
  });
}

function fail(error) {
  configured = '';
  // An early failure is the decoder's own; a later one may be a damaged stream, which says nothing about hardware.
  postMessage({ decoderFailed: String((error && error.message) || error), software, early: decoded < 30 });
  software = true;
  if (decoder && decoder.state !== 'closed') decoder.close();
  decoder = null;
  needKey = true;
}

function feed(buffer) {
  if (!config) return;
  const head = new DataView(buffer), key = (head.getUint8(1) & 1) === 1;
  if (needKey && !key) return postMessage({ needKey: true });
  try {
    if (!decoder) configure();
    if (decoder.decodeQueueSize <= MAX_QUEUE) behindSince = 0;
    else if (!behindSince) behindSince = now();
    else if (!key && now() - behindSince > MAX_BEHIND) {
      needKey = true;
      behindSince = 0;
      return postMessage({ needKey: true });
    }
    needKey = false;
    decoder.decode(new EncodedVideoChunk({
      type: key ? 'key' : 'delta',
      timestamp: Number(head.getBigUint64(12)),
      data: new Uint8Array(buffer, head.getUint16(2)),
    }));
  } catch (error) {
    fail(error);
  }
}

// Safari makes its tracks in workers, Chromium in the page; elsewhere a canvas it is.
function sink(given) {
  if (given.writable) {
    writer = given.writable.getWriter();
    return;
  }
  if (self.VideoTrackGenerator) {
    try {
      const generator = new VideoTrackGenerator();
      postMessage({ track: generator.track }, [generator.track]);
      writer = generator.writable.getWriter();
      return;
    } catch { /* tracks cannot be transferred here */ }
  }
  canvas = given.canvas;
  context = canvas.getContext('2d', { alpha: false, desynchronized: true });
  postMessage({ canvas: true });
}

onmessage = ({ data }) => {
  if (data instanceof ArrayBuffer) return feed(data);
  if (data.sink) {
    software = data.software;
    return sink(data.sink);
  }
  if (data.restart) needKey = true;
  if (data.config) {
    config = data.config;
    try { configure(); } catch (error) { fail(error); }
  }
};
