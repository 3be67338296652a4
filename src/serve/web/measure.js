// What the page measures: the server's clock against its own, the way of each frame to the screen, and rates. `page` says
// what it looks at: sink(), player(), server(), looked_at().
'use strict';
const measuring = page => {
const { video, count, send } = page;
const median = list => list.length ? list.sort((a, b) => a - b)[list.length >> 1] : null;

const sent = new Map();   // number of an input event -> when it was sent

// The server's clock against ours: of the answers of the last 20 s the one with the shortest way says it best.
const clock = {
  list: [], best: null,
  reset() { this.list = []; this.best = null; },
  ping() { send({ type: 'ping', t: performance.now() }); },
  pong({ t, server_us }) {
    const at = performance.now(), rtt = at - t;
    this.list = this.list.filter(s => at - s.at < 20000);
    this.list.push({ at, rtt, offset: server_us / 1000 - (t + at) / 2 });
    this.best = this.list.reduce((a, b) => b.rtt < a.rtt ? b : a);
  },
};

const frames = new Map();   // capture time in µs -> what is known of that frame, oldest first
let newest = null, reported = 0, viewDelays = [], viewReport = null;

function arrived(buffer, recv) {
  const head = new DataView(buffer), cap = Number(head.getBigUint64(12)), seen = newest ? newest.view : 0;
  newest = { cap, recv, sequence: head.getUint32(4), view: head.getUint32(8), cte: head.getUint32(20), decoded: null, painted: null, event: 0 };
  count.bytes += buffer.byteLength;
  frames.set(cap, newest);
  if (frames.size > 600) frames.delete(frames.keys().next().value);
  if (newest.view !== seen && sent.has(newest.view)) {
    newest.event = sent.get(newest.view);
    for (const view of sent.keys()) if (view <= newest.view) sent.delete(view);
    watch_paint();
  }
}

function painted(frame, at) {
  if (frame.painted !== null) return;
  frame.painted = at;
  if (!frame.event) return;
  viewReport = at - frame.event;
  viewDelays.push({ at, ms: viewReport });
}

// presentationTime is the hand-over to the compositor, some ms before the screen. expectedDisplayTime is no better: against
// the pixels of an X display (Xvfb) it is later than the truth by far more than this is early.
// One callback a frame costs the page a rendering update each, so it is asked for while the panel is open, while an
// input event waits for its picture, and otherwise for a sample four times a second.
let watching = false;
function watch_paint() {
  if (watching || page.sink() !== 'video track' || !video.requestVideoFrameCallback) return;
  watching = true;
  video.requestVideoFrameCallback((now, { mediaTime, presentationTime }) => {
    watching = false;
    const frame = frames.get(Math.round(mediaTime * 1e6));
    if (frame) painted(frame, presentationTime);
    if (page.looked_at() || sent.size || (newest && newest.event && newest.painted === null)) watch_paint();
  });
}

// The clocks' offset is known to half a round trip: a way shorter than that can come out below nothing.
const network = f => clock.best && Math.max(0, f.recv - ((f.cap + f.cte) / 1000 - clock.best.offset));
const total = f => clock.best && f.painted !== null ? f.painted - (f.cap / 1000 - clock.best.offset) : null;
const STAGES = {
  network,
  decode: f => f.decoded === null ? null : f.decoded - f.recv,
  paint: f => f.painted === null || f.decoded === null ? null : Math.max(0, f.painted - f.decoded),
  total,
};

function spread(list) {
  const v = list.filter(x => x !== null).sort((a, b) => a - b), at = q => Math.round(10 * v[Math.min(v.length - 1, Math.floor(q * v.length))]) / 10;
  return v.length ? { p50: at(.5), p95: at(.95) } : null;
}

function latency() {
  const since = performance.now() - 5000, recent = [...frames.values()].filter(f => f.recv > since), out = {};
  const server = page.server(), stages = (server && server.latency_ms) || {}, until = spread(recent.map(f => f.cte / 1000)), pair = s => s && s.p50 !== null ? { p50: s.p50, p95: s.p95 } : null;
  out.capture = pair(stages.capture);
  // What the header's capture-to-encoded time holds beyond the capture: conversion, encoding, and the waits between.
  const round = x => Math.max(0, Math.round(10 * x) / 10);
  out.encode = until && out.capture ? { p50: round(until.p50 - out.capture.p50), p95: round(until.p95 - out.capture.p50) } : until || pair(stages.encode);
  for (const name in STAGES) out[name] = spread(recent.map(STAGES[name]));
  return out;
}

const samples = [];   // {at, painted, bytes} of the last 2 s: rates
function sample() {
  const at = performance.now();
  samples.push({ at, painted: page.player().painted(), bytes: count.bytes });
  while (at - samples[0].at > 2000 && samples.length > 2) samples.shift();
}
function rate(key) {
  const a = samples[0], b = samples[samples.length - 1];
  return !b || a === b || b[key] === null || a[key] === null || b[key] < a[key] ? null : (b[key] - a[key]) * 1000 / (b.at - a.at);
}

function ack() {
  if (!newest || newest.sequence === reported) return;
  const fresh = [...frames.values()].filter(f => !f.acked && f.decoded !== null);
  fresh.forEach(f => { f.acked = true; });
  const mid = stage => { const m = median(fresh.map(STAGES[stage]).filter(x => x !== null)); return m === null ? null : Math.max(0, Math.round(m * 1000)); };
  reported = newest.sequence;
  send({ type: 'ack', sequence: newest.sequence, frames: fresh.length, network_us: mid('network'), decode_us: mid('decode'), paint_us: mid('paint'),
    total_us: mid('total'), queue: page.player().queue, view_us: viewReport === null ? null : Math.round(viewReport * 1000) });
  viewReport = null;
}

// Another connection: it may be another process on another machine's clock.
function reset() {
  clock.reset();
  frames.clear();
  newest = null;
}
// What is too old to tell anything.
function forget(t) {
  viewDelays = viewDelays.filter(d => t - d.at < 5000);
  for (const [number, at] of sent) if (t - at > 5000) sent.delete(number);   // no picture answered it
}

return {
  sent, clock, frames, arrived, painted, watch_paint, latency, sample, rate, ack, reset, forget,
  forget_rates() { samples.length = 0; },
  input_to_picture: () => spread(viewDelays.map(d => d.ms)),
};
};
