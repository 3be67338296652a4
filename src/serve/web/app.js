// The viewer page: one socket, one of three ways to the screen, and what is said over the picture.
'use strict';
(() => {
const $ = id => document.getElementById(id);
const stage = $('stage'), picture = $('picture'), video = $('video'), query = new URLSearchParams(location.search);
const PATHS = ['webcodecs', 'mse', 'mjpeg'], PATH_NAMES = { webcodecs: 'WebCodecs', mse: 'MediaSource', mjpeg: 'MJPEG' };
const forced = PATHS.includes(query.get('via')) ? query.get('via') : null;

let via = null, sink = '', player = null, why = '';  // why: the reason this path was taken instead of a better one
let parked = null;    // the WebCodecs player, while the server gives JPEG in place of H.264
let leaving = null;   // what is on the screen until the parked one shows again
let hello = null, config = null, server = null;      // the newest messages of their kinds
let size = { width: 0, height: 0 };
const errors = [], count = { painted: 0, bytes: 0, drops: 0, reconnects: 0 };
const seconds = n => `${n} s`;
const note = text => { errors.push(text); if (errors.length > 20) errors.shift(); };

// ---- What is said ----

// lost: why the last connection ended, until this one has a picture or a state of its own; refused: the stream beside it was.
const link = { phase: 'connecting', retryAt: 0, lost: '', bye: '', picture: false, problem: '', silent: false, refused: null };

function words() {
  if (link.problem) return link.problem;
  if (link.phase === 'paused') return 'paused while this tab was hidden';
  if (link.phase === 'waiting') return link.lost;
  if (link.phase === 'connecting') return link.lost || 'connecting…';
  if (link.picture && hello.state === 'streaming') return '';
  if (link.bye) return link.bye;
  if (link.refused) return link.refused;
  const { state, reason } = hello;
  const with_reason = text => reason ? `${text}: ${reason}` : text;
  switch (state) {
    case 'streaming': return link.picture ? '' : 'waiting for the first frame';
    case 'no-slot': return with_reason('no encoder slot');
    case 'error': return with_reason('the source failed');
    case 'starting': return with_reason('the source is starting');
    case 'idle': return link.picture ? '' : 'waiting for the first frame';
    default: return with_reason(state);
  }
}

function state() {
  if (link.problem) return 'error';
  if (link.phase !== 'open') return link.phase === 'waiting' ? 'reconnecting' : link.phase;
  return (hello.state === 'streaming' && !link.picture) || link.refused ? 'waiting' : hello.state;
}

function set(id, text) { const el = typeof id === 'string' ? $(id) : id; if (el.textContent !== text) el.textContent = text; }

function say() {
  // Between two attempts and during one the box keeps its size.
  const text = words(), again = !link.problem && link.lost && (link.phase === 'waiting' || link.phase === 'connecting');
  set('reason', text);
  const left = Math.max(0, Math.ceil((link.retryAt - performance.now()) / 1000));
  set('countdown', !again ? '' : link.phase === 'waiting' ? `reconnecting in ${seconds(left)}` : 'reconnecting…');
  $('retry').hidden = !again;
  $('overlay').hidden = !text || !dressed;
  const now = state();
  $('dot').className = now === 'streaming' ? 'good' : now === 'error' || now === 'no-slot' ? 'bad' : '';
  set('summary', text ? now : size.width ? `${size.width} × ${size.height}` : '');
  stage.setAttribute('aria-busy', String(Boolean(text)));
}

// Words need fonts and layout, which compete with the first frame: they wait until a quick join is over.
let dressed = false;
setTimeout(() => {
  dressed = true;
  $('bar').hidden = false;
  say();
}, 250);

let noticeTimer = 0;
function notice(text) {
  set('notice', text);
  $('notice').hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => { $('notice').hidden = true; }, 10000);
}

// ---- The socket ----

// WebCodecs' connection to a worker of H.264 asks for no codec, and so gets what the host can make: H.264, or JPEG where that
// is too slow.
const undecided = () => parked || (via === 'webcodecs' && !forced && !query.has('codec') && codec.now === 'h264' && document.body.dataset.codec === 'h264');
const wanted = { webcodecs: () => `video=${codec.now}`, mse: () => `video=none&codec=${codec.now}`, mjpeg: () => 'video=jpeg' };
let socket = null, backoff = 250, retryTimer = 0, heard = 0;
const send = message => { if (socket && socket.readyState === 1) socket.send(JSON.stringify(message)); };

function connect() {
  clearTimeout(retryTimer);
  drop_socket();
  Object.assign(link, { phase: 'connecting', picture: false });
  const ws = new WebSocket(`${location.origin.replace(/^http/, 'ws')}/ws?${undecided() ? '' : wanted[via]()}`, 'gsk.v1');
  let opened = false;
  socket = ws;
  ws.binaryType = 'arraybuffer';
  ws.onopen = () => { opened = true; heard = performance.now(); };
  ws.onmessage = ({ data }) => {
    heard = performance.now();
    if (typeof data === 'string') return told(JSON.parse(data));
    measured.arrived(data, heard);
    player.feed(data);
  };
  ws.onclose = () => { if (ws === socket) lost(opened); };
  say();
}

function drop_socket() {
  if (!socket) return;
  socket.onclose = socket.onmessage = null;
  socket.close();
  socket = null;
}

async function lost(opened) {
  socket = null;
  if (link.phase === 'paused') return;
  Object.assign(link, { phase: 'waiting', retryAt: performance.now() + backoff, refused: null,
    lost: link.bye || (link.silent ? 'no word from the server for 5 s' : opened || !link.lost ? 'the connection to the server is gone' : link.lost) });
  count.reconnects++;
  retryTimer = setTimeout(connect, backoff);
  backoff = Math.min(5000, backoff * 2);
  say();
  if (opened) return;
  // A page cannot read why a WebSocket was refused, but this answer it can.
  const answer = await fetch('/auth').catch(() => null);
  if (answer && answer.status === 401 && link.phase !== 'open') no_token('a token is needed: open the whole link, with #token=, that gsk serve printed');
}

function no_token(text) {
  clearTimeout(retryTimer);
  link.problem = text;
  say();
}

function again() {
  if (link.phase === 'waiting' || link.phase === 'paused') {
    backoff = 250;
    connect();
  }
}

function told(message) {
  switch (message.type) {
    case 'hello':
      hello = message;
      // A farewell stays in view over one more attempt that ends the same way at once.
      Object.assign(link, { phase: 'open', silent: false, problem: '', refused: null });
      if (via === 'mse' || !['streaming', 'idle'].includes(message.state)) link.bye = '';
      measured.reset();
      server = null;
      if ((via !== 'mjpeg' || parked) && !hello.codecs.includes(codec.now)) {
        return fall_on(codec.now === 'h264' ? 'this worker encodes JPEG only' : `this worker encodes no ${codec.name()}`);
      }
      player.open();
      show_hint();
      return say();
    case 'config':
      config = message;
      link.bye = '';
      follow_codec();
      resized(config.width, config.height);
      if (player.configure) player.configure(config);
      return;
    case 'state':
      if (message.state !== 'streaming') link.picture = false;
      else if (hello.state !== 'streaming' && player.resume) player.resume();
      Object.assign(hello, { state: message.state, reason: message.reason, since: message.since });
      Object.assign(link, { bye: '', refused: null });
      return say();
    case 'drop': count.drops += message.frames; return;
    case 'pong': return measured.clock.pong(message);
    case 'stats': server = message; return;
    case 'bye': link.bye = message.reason || 'the server ended'; return;
  }
}

// The server has begun to give JPEG to who asked for no codec, or H.264 again: the same connection, another way to the screen.
function follow_codec() {
  const jpeg = config.codec === 'mjpeg';
  if (jpeg === Boolean(parked) || !undecided()) return;
  measured.forget_rates();
  if (jpeg) {
    land();
    parked = player;
    parked.park();
    via = 'mjpeg';
    player = ways.mjpeg();
    why = 'the server gives JPEG';
    notice(`Now watching JPEG pictures, not H.264: ${(config.fallback && config.fallback.detail) || 'no reason given'}.`);
  } else {
    land();
    leaving = player;
    player = parked;
    parked = null;
    via = 'webcodecs';
    why = '';
    player.unpark();
    notice('Now watching H.264 again.');
  }
}

// What was to stay on the screen until another picture came may go.
function land() {
  if (leaving) leaving.stop();
  leaving = null;
}

let keyAsked = -1e9;
function ask_key() {
  const t = performance.now();
  if (t - keyAsked < 500) return;
  keyAsked = t;
  send({ type: 'keyframe' });
}

// A picture of this connection is on the screen.
function good() {
  backoff = 250;
  Object.assign(link, { picture: true, lost: '', bye: '', refused: null });
  say();
}

const may_steer = () => Boolean(hello && hello.input && socket && socket.readyState === 1);
const measured = measuring({
  video, count, send, sink: () => sink, player: () => player, server: () => server, looked_at: () => !$('panel').hidden,
});

// ---- Which path ----

const MISSING = {
  webcodecs: () => window.VideoDecoder ? '' : window.isSecureContext ? 'this browser has no WebCodecs' : 'WebCodecs needs HTTPS or a tunnel',
  mse: () => window.ManagedMediaSource || window.MediaSource ? '' : 'this browser has no MediaSource',
  mjpeg: () => '',
};

function choose(from) {
  for (const path of forced ? [forced] : PATHS.slice(from)) {
    const missing = MISSING[path]();
    if (missing) {
      why = why || missing;
      note(missing);
      continue;
    }
    via = path;
    return true;
  }
  Object.assign(link, { phase: 'failed', problem: `${PATH_NAMES[forced]} was asked for by ?via=${forced}, but ${why}` });
  return false;
}

function begin() {
  player = null;
  try { player = ways[via](); } catch (error) { fall_on(error.message); }
}

function fall_on(reason) {
  const from = parked ? 'webcodecs' : via;
  note(`${PATH_NAMES[from]}: ${reason}`);
  land();
  for (const one of [player, parked]) if (one) one.stop();
  parked = null;
  drop_socket();
  clearTimeout(retryTimer);
  measured.forget_rates();
  // The same way with the codec that all decode comes before a lesser way.
  if (from !== 'mjpeg' && codec.settle_for_h264(reason)) {
    connect();
    return begin();
  }
  why = reason;
  if (forced || from === 'mjpeg') {
    Object.assign(link, { phase: 'failed', problem: `${PATH_NAMES[from]} cannot go on: ${reason}` });
    return say();
  }
  if (!choose(PATHS.indexOf(from) + 1)) return say();
  notice(`${PATH_NAMES[from]} cannot go on (${reason}). Now watching by ${PATH_NAMES[via]}.`);
  connect();
  begin();
}

function show_sink(name) {
  sink = name;
  video.hidden = name === 'canvas' || name === 'image';
  $('canvas').hidden = name !== 'canvas';
}

// ---- Where the picture is ----

let box = { left: 0, top: 0, width: 1, height: 1 };
function resized(width, height) {
  if (width === size.width && height === size.height) return;
  size = { width, height };
  fit();
  say();
}
function fit() {
  const { clientWidth: w, clientHeight: h } = stage;
  const scale = size.width ? Math.min(w / size.width, h / size.height) : 0;
  const width = scale ? Math.round(size.width * scale) : w, height = scale ? Math.round(size.height * scale) : h;
  box = { left: Math.round((w - width) / 2), top: Math.round((h - height) / 2), width, height };
  for (const side in box) picture.style[side] = `${box[side]}px`;
}

function show_hint() {
  $('keys-hint').hidden = hello.input;
  set('input-help', hello.input ? 'Drag, scroll and type on the picture; on a touch screen two fingers pan and zoom. Keys go to the program while the picture has the focus.' : 'View only: this stream takes no input.');
}

// ---- The bar, the panel ----

let awayTimer = 0;
function awake() {
  $('bar').classList.remove('away');
  stage.classList.remove('idle');
  clearTimeout(awayTimer);
  awayTimer = setTimeout(() => { $('bar').classList.add('away'); if (hello && !hello.input) stage.classList.add('idle'); }, 3000);
}
function toggle_panel() {
  $('panel').hidden = !$('panel').hidden;
  $('info-button').setAttribute('aria-pressed', String(!$('panel').hidden));
  if (!$('panel').hidden) { measured.watch_paint(); show_facts(); }
  else if ($('panel').contains(document.activeElement)) stage.focus();
}
function toggle_help() {
  $('help').hidden = !$('help').hidden;
  $('help-button').setAttribute('aria-expanded', String(!$('help').hidden));
  ($('help').hidden ? stage : $('help-close')).focus();
}
function toggle_full() {
  const root = document.documentElement, inFull = document.fullscreenElement || document.webkitFullscreenElement;
  const go = inFull ? document.exitFullscreen || document.webkitExitFullscreen : root.requestFullscreen || root.webkitRequestFullscreen;
  if (!go) return notice('this browser cannot show a page in full screen');
  Promise.resolve(go.call(inFull ? document : root)).catch(error => notice(`full screen was refused: ${error.message}`));
}

// A key of the page's own never reaches the program.
const OWN_KEYS = { i: toggle_panel, f: toggle_full, '?': toggle_help };
function own_keys(e) {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  const closes = e.key === 'Escape' && !$('help').hidden;
  if (!closes && !OWN_KEYS[e.key]) return;
  if (!e.repeat) (closes ? toggle_help : OWN_KEYS[e.key])();
  e.preventDefault();
}

const facts = facts_panel({
  $, set, measured, PATH_NAMES,
  now: () => ({ via, sink, why, size, config, server, dropped: count.drops, codec: (player && player.codec() || '–') + (codec.why ? `, as ${codec.why}` : '') }),
});
function show_facts() {
  facts.show();
  quality.show(server, config);
}

// ---- Time ----

function tick() {
  const t = performance.now();
  // This page stood still itself: what the server said meanwhile has yet to be read.
  if (t - ticked > 2000) heard = t;
  ticked = t;
  measured.sample();
  measured.ack();
  measured.forget(t);
  measured.watch_paint();
  if (link.phase === 'waiting') say();
  if (link.phase === 'open') {
    const slow = measured.clock.list.length > 5 ? 1000 : 250;
    if (t - lastPing >= slow) { lastPing = t; measured.clock.ping(); }
    // The server says something every second: silence means a dead connection that TCP has not noticed.
    if (t - heard > 5000 && !document.hidden) { link.silent = true; drop_socket(); lost(true); }
    if (!link.picture && hello.state === 'streaming' && t - heard < 1000 && t - keyAsked > 2000) ask_key();
  }
  if (!$('panel').hidden) show_facts();
}
let lastPing = 0, ticked = 0, hiddenTimer = 0;

function visibility() {
  clearTimeout(hiddenTimer);
  if (link.phase === 'failed') return;
  if (document.hidden) {
    hands.let_go();
    // A tab nobody sees gives the worker's encoder free.
    hiddenTimer = setTimeout(() => {
      link.phase = 'paused';
      drop_socket();
      clearTimeout(retryTimer);
      if (player.pause) player.pause();
      link.lost = '';
      say();
    }, 30000);
  } else {
    heard = performance.now();
    again();
    if (player.visible) player.visible();
  }
}

async function start() {
  const token = new URLSearchParams(location.hash.slice(1)).get('token');
  if (token) {
    history.replaceState(null, '', location.pathname + location.search);
    const answer = await fetch('/auth', { method: 'POST', headers: { Authorization: `Bearer ${token}` } }).catch(() => null);
    if (answer && answer.status === 401) return no_token('the token of this link is not the right one: open the whole link that gsk serve printed');
  }
  link.problem = '';
  if (codec.now !== 'h264') await codec.settle(via);
  connect();
}

const codec = codec_choice({ offered: document.body.dataset.codec, query, note, notice });
const ways = players({
  $, link, count, note, good, ask_key, fall_on, resized, show_sink, land, frames: measured.frames, painted: measured.painted,
  config: () => config,
  codec: () => codec.now,
  refused({ state, reason }) {
    if (link.phase !== 'open') return;
    link.refused = (state === 'no-slot' && reason ? `no encoder slot: ${reason}` : reason) || state;
    say();
  },
});

// The socket first, then the worker and the track: they start while the rest of this page is set up.
const playing = choose(0);
if (playing) {
  start();
  begin();
} else say();

new ResizeObserver(fit).observe(stage);
addEventListener('keydown', own_keys);   // before the picture's own listener, which leaves handled keys alone
const quality = bitrate_choice({ $, send, may_steer, steers: () => Boolean(hello && hello.input) });
const hands = steering({ stage, send, may_steer, sent: measured.sent, watch_paint: measured.watch_paint, box: () => box });
addEventListener('pointermove', awake, { passive: true });
addEventListener('pointerdown', awake, { passive: true });
document.addEventListener('focusin', awake);
addEventListener('online', again);
addEventListener('hashchange', () => { if (link.phase !== 'failed') start(); });
document.addEventListener('visibilitychange', visibility);
document.addEventListener('fullscreenchange', () => $('full-button').setAttribute('aria-pressed', String(Boolean(document.fullscreenElement))));
$('info-button').onclick = toggle_panel;
$('help-button').onclick = $('help-close').onclick = toggle_help;
$('full-button').onclick = toggle_full;
$('retry').onclick = again;
facts.show_notes();
awake();
if (query.has('via') && !forced) {
  const text = `?via=${query.get('via')} is not known; it can be webcodecs, mse or mjpeg. This page chose by itself.`;
  note(text);
  notice(text);
}
if (codec.unknown) {
  note(codec.unknown);
  notice(codec.unknown);
}
if (playing) setInterval(tick, 250);

window.gsk = {
  stats: () => ({
    via, sink, state: state(), reason: [words(), $('countdown').textContent].filter(Boolean).join('; '), painted: player ? player.painted() : null, painted_fps: measured.rate('painted'),
    bitrate_bps: measured.rate('bytes') === null ? null : measured.rate('bytes') * 8, ...size, latency: measured.latency(),
    input_to_picture_ms: measured.input_to_picture(), drops: count.drops, reconnects: count.reconnects, errors: [...errors],
  }),
};
})();
