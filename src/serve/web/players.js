// The three ways from the server to the screen. Each is a function that starts one and gives back:
// feed(buffer): one message of video; configure(config); open(): a connection has begun; resume(): the source is back;
// visible(): the tab is shown again; pause(): nobody watches for now; painted(): pictures shown so far, or null; codec();
// queue; stop(). WebCodecs' has park() and unpark() too: another player has the screen for a while.
'use strict';
const players = page => {
const { $, link, count, frames, note, good, ask_key, fall_on, resized, painted, show_sink, land } = page;
const shown = () => { const q = video.getVideoPlaybackQuality(); return q.totalVideoFrames - q.droppedVideoFrames; };
const video = $('video'), Source = window.ManagedMediaSource || window.MediaSource;

// ---- Path 1: WebCodecs in a worker ----

function webcodecs() {
  const worker = new Worker(URL.createObjectURL(new Blob([$('worker').textContent], { type: 'text/javascript' })));
  const failures = [], memory = 'gsk.hardware-decoder-failed';
  const recall = () => { try { return localStorage.getItem(memory) === navigator.userAgent; } catch { return false; } };
  const remember = () => { try { localStorage.setItem(memory, navigator.userAgent); } catch { /* storage is closed to this page */ } };
  let suspect = false, drawn = 0, track = true, parked = false, returns = false;
  const take_screen = () => show_sink(track ? 'video track' : 'canvas');
  const self = {
    queue: 0,
    // The receive time needs no hop; the buffer is handed over, not copied.
    feed: buffer => worker.postMessage(buffer, [buffer]),
    open: () => worker.postMessage({ restart: true }),
    configure: c => worker.postMessage({ config: { codec: c.codec, width: c.width, height: c.height, colour: c.colour } }),
    painted: () => track ? shown() : drawn,
    codec: () => page.config() && page.config().codec,
    park() { parked = true; returns = false; },
    // What is on the screen stays until a picture has come.
    unpark() { parked = false; returns = true; self.open(); },
    stop() { worker.onmessage = worker.onerror = null; worker.terminate(); video.srcObject = null; },
  };
  worker.onerror = event => fall_on(`the decoding worker failed: ${event.message || 'it could not start'}`);
  worker.onmessage = ({ data }) => {
    if (data.times) {
      self.queue = data.queue;
      for (let i = 0; i < data.times.length; i += 3) {
        const frame = frames.get(data.times[i]);
        drawn++;
        if (!frame) continue;
        frame.decoded = data.times[i + 1] - performance.timeOrigin;
        if (!Number.isNaN(data.times[i + 2])) painted(frame, data.times[i + 2] - performance.timeOrigin);
      }
    }
    if (data.times && returns) {
      returns = false;
      take_screen();
      land();
    }
    if (parked) return;
    if (data.first && suspect && data.software) remember();
    if (data.times && !link.picture && link.phase === 'open') good();
    if (data.needKey) ask_key();
    if (data.track) { video.srcObject = new MediaStream([data.track]); take_screen(); }
    if (data.canvas) { track = false; take_screen(); }
    if (data.failed) fall_on(data.failed);
    if (data.decoderFailed) {
      const at = performance.now();
      note(`decoder: ${data.decoderFailed}`);
      suspect = suspect || (data.early && !data.software);
      failures.push(at);
      if (failures.length > 1 && at - failures[failures.length - 2] < 10000) fall_on(`the decoder failed twice: ${data.decoderFailed}`);
      else ask_key();
    }
  };
  const given = {};
  if (window.MediaStreamTrackGenerator) {
    const generator = new MediaStreamTrackGenerator({ kind: 'video' });
    given.writable = generator.writable;
    video.srcObject = new MediaStream([generator]);
    take_screen();
  } else {
    given.canvas = $('canvas').transferControlToOffscreen();
  }
  worker.postMessage({ sink: given, software: recall() }, Object.values(given));
  return self;
}

// ---- Path 2: fragmented MP4 into MediaSource ----

const KEY_PAUSE = 3000, PATIENCE = 1000;               // ms
const KEEP_SECONDS = 60, KEEP_BYTES = 32 * 1024 * 1024;  // Chromium's own limit for video is 150 MB

function mse() {
  const media = new Source(), todo = [];
  let buffer = null, opening = null, hurry = null, lastKey = 0, sinceKey = 0, behindSince = 0, jumped = 0, asked = 0, empty = 0, type = '', ended = false;
  const ready = new Promise(resolve => media.addEventListener('sourceopen', resolve, { once: true }));
  video.disableRemotePlayback = true;
  video.src = URL.createObjectURL(media);
  show_sink('video');

  function next() {
    if (!buffer || buffer.updating || !todo.length) return;
    const item = todo.shift();
    if (item.key) {
      lastKey = edge();
      sinceKey = 0;
    }
    sinceKey += item.bytes.length;
    try { buffer.appendBuffer(item.bytes); } catch (error) { fall_on(`MediaSource refused the stream: ${error.message}`); }
  }
  const edge = () => buffer && buffer.buffered.length ? buffer.buffered.end(buffer.buffered.length - 1) : 0;

  // Every viewer pays for a key frame, so this asks seldom.
  function want_key(t) {
    if (t - asked < KEY_PAUSE) return;
    asked = t;
    ask_key();
  }
  // What little is behind is made up by playing faster. A jump decodes from the last key frame on, so it is made where
  // that is near, and a new one is asked for else; neither is done again at once on a machine that cannot keep up.
  function follow() {
    if (ended || !buffer) return;
    const t = performance.now();
    // A browser that has thrown its buffer away takes up again at a key frame.
    empty = buffer.buffered.length ? 0 : empty + 1;
    if (empty > 30) want_key(t);
    if (empty) return;
    const end = edge(), start = buffer.buffered.start(buffer.buffered.length - 1), at = video.currentTime, behind = end - at;
    const stalled = video.readyState < 3 && behind > 0.1;
    if (video.paused) video.play().catch(() => {});
    if (behind <= 0.3 && !stalled) behindSince = 0;
    else if (!behindSince) behindSince = t;
    if (!video.seeking && (at < start || behind > 1 || (behindSince && t - behindSince > PATIENCE))) {
      if (end - lastKey > 2) want_key(t);
      else if (at < start || t - jumped > KEY_PAUSE) {
        jumped = t;
        video.currentTime = Math.max(start, end - 0.03);
      }
    }
    video.playbackRate = behind > 0.3 ? 1.5 : behind > 0.15 ? 1.1 : behind > 0.1 ? 1.05 : 1;
    // The buffer can only be cut at a key frame: what depends on one goes with it, up to the next. That next one may begin
    // a little before the end of the frame it follows, so the cut is made well before it.
    if (lastKey > start + 1 && at > lastKey && !buffer.updating) {
      buffer.remove(0, lastKey - 0.2);
    } else if (end - lastKey > KEEP_SECONDS || sinceKey > KEEP_BYTES) want_key(t);
  }
  function after() {
    if (!link.picture && link.phase === 'open' && video.readyState > 1) good();
    follow();
    next();
  }

  // Where what a box holds begins, or -1.
  function inside(bytes, box) {
    const letters = [...box].map(c => c.charCodeAt(0));
    for (let i = 0; i + 4 < bytes.length; i++) if (letters.every((c, k) => bytes[i + k] === c)) return i + 4;
    return -1;
  }
  // From the decoder's configuration (ISO/IEC 14496-15, annex E; AV1-ISOBMFF, 5).
  function codec_of(bytes) {
    const hex = n => n.toString(16).toUpperCase(), two = n => String(n).padStart(2, '0');
    let at = inside(bytes, 'avcC');
    if (at > 0) return 'avc1.' + [1, 2, 3].map(k => hex(bytes[at + k]).padStart(2, '0')).join('');
    at = inside(bytes, 'hvcC');
    if (at > 0) {
      let flags = new DataView(bytes.buffer, bytes.byteOffset).getUint32(at + 2), turned = 0;
      for (let i = 0; i < 32; i++, flags >>>= 1) turned = (turned * 2) + (flags & 1);
      const first = bytes[at + 1], limits = [...bytes.subarray(at + 6, at + 12)];
      while (limits.length && !limits[limits.length - 1]) limits.pop();
      return ['hvc1', ['', 'A', 'B', 'C'][first >> 6] + (first & 31), hex(turned), (first & 32 ? 'H' : 'L') + bytes[at + 12], ...limits.map(hex)].join('.');
    }
    at = inside(bytes, 'av1C');
    if (at < 0) return null;
    const [profile, rest] = [bytes[at + 1], bytes[at + 2]];
    return `av01.${profile >> 5}.${two(profile & 31)}${rest & 128 ? 'H' : 'M'}.${rest & 32 ? '12' : rest & 64 ? '10' : '08'}`;
  }
  // Whether a media fragment's sample is a sync sample: by first_sample_flags of its track run, behind the run's own flags, its
  // count and its offset (ISO/IEC 14496-12, 8.8.8).
  const is_key = bytes => (bytes[inside(bytes, 'trun') + 13] & 1) === 0;

  async function read() {
    const abort = opening = new AbortController();
    const answer = await fetch(`/stream.mp4?timeline=packed&codec=${page.codec()}`, { signal: abort.signal });
    if (!answer.ok) {
      const said = await answer.json().catch(() => ({}));
      if (said.state) page.refused(said);
      return;
    }
    const reader = answer.body.getReader();
    let rest = new Uint8Array(0), from = 0;   // from: where the box being walked begins in rest
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      count.bytes += value.length;
      const grown = new Uint8Array(rest.length + value.length);
      grown.set(rest);
      grown.set(value, rest.length);
      rest = grown;
      // Whole segments only: a connection that breaks then never leaves half a box in the buffer.
      while (rest.length - from >= 8) {
        const view = new DataView(rest.buffer, rest.byteOffset), length = view.getUint32(from), kind = String.fromCharCode(...rest.subarray(from + 4, from + 8));
        if (length < 8) throw new Error('the MP4 stream is damaged');
        if (rest.length - from < length) break;
        from += length;
        if (kind !== 'moov' && kind !== 'mdat') continue;
        const bytes = rest.subarray(0, from);
        if (kind === 'moov') await begin(codec_of(bytes));
        todo.push({ bytes, key: kind === 'mdat' && is_key(bytes) });
        rest = rest.subarray(from);
        from = 0;
        next();
      }
    }
  }
  async function begin(codec) {
    const wanted = `video/mp4; codecs="${codec}"`;
    if (!codec || !Source.isTypeSupported(wanted)) return fall_on(`MediaSource cannot play ${codec || 'this stream'}`);
    await ready;
    if (ended || type === wanted) return;
    type = wanted;
    if (buffer) {
      while (buffer.updating || todo.length) await new Promise(resolve => buffer.addEventListener('updateend', resolve, { once: true }));
      return buffer.changeType(wanted);
    }
    media.duration = Infinity;
    buffer = media.addSourceBuffer(wanted);
    buffer.mode = 'sequence';
    buffer.onupdateend = after;
    buffer.onerror = () => fall_on('MediaSource could not read the stream');
  }

  video.onerror = () => { if (!ended) fall_on(`the video element failed: ${(video.error && video.error.message) || 'no reason given'}`); };
  video.onwaiting = follow;
  video.onresize = () => { if (video.videoWidth) resized(video.videoWidth, video.videoHeight); };
  let generation = 0;
  const self = {
    queue: null,
    feed() {},
    // The stream is opened beside each new connection, and again while it ends under a good one.
    async open() {
      const mine = ++generation;
      if (opening) opening.abort();
      for (let wait = 250; !ended && mine === generation && link.phase === 'open'; wait = Math.min(5000, wait * 2)) {
        try { await read(); } catch (error) {
          if (error.name !== 'AbortError' && mine === generation) note(`stream.mp4: ${error.message}`);
        }
        if (link.picture) wait = 250;
        if (mine === generation) await new Promise(resolve => { hurry = resolve; setTimeout(resolve, wait); });
        hurry = null;
      }
    },
    // A request under way is left alone: to give up its place would make the source idle, and that its return again.
    resume() { if (hurry) hurry(); },
    painted: shown,
    codec: () => type.replace(/.*"(.*)"/, '$1'),
    visible: follow,
    pause() { generation++; if (opening) opening.abort(); },
    stop() {
      ended = true;
      if (opening) opening.abort();
      video.onerror = video.onwaiting = video.onresize = null;
      video.removeAttribute('src');
      video.load();
    },
  };
  return self;
}

// ---- Path 3: JPEG pictures over the socket ----

// Not the multipart stream in an <img>: Chromium shows a part of that only when the next one's head is there, and nothing
// of it can be measured.
function mjpeg() {
  const canvas = document.createElement('canvas'), context = canvas.getContext('bitmaprenderer', { alpha: false });
  let busy = false, waiting = null, drawn = 0, failed = 0, over = false;
  // What another player has left on the screen stays until the first picture.
  canvas.hidden = true;
  $('picture').append(canvas);
  async function show(buffer) {
    busy = true;
    const head = new DataView(buffer), frame = frames.get(Number(head.getBigUint64(12)));
    try {
      const bitmap = await createImageBitmap(new Blob([new Uint8Array(buffer, head.getUint16(2))], { type: 'image/jpeg' }));
      if (over) return bitmap.close();
      if (frame) frame.decoded = performance.now();
      if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
      resized(bitmap.width, bitmap.height);
      context.transferFromImageBitmap(bitmap);
      if (canvas.hidden) {
        canvas.hidden = false;
        show_sink('image');
      }
      drawn++;
      failed = 0;
      if (frame) painted(frame, performance.now());
      if (!link.picture && link.phase === 'open') good();
    } catch (error) {
      if (over) return;
      note(`JPEG: ${error.message}`);
      if (++failed > 10) return fall_on(`pictures cannot be decoded: ${error.message}`);
    }
    busy = false;
    const next = waiting;
    waiting = null;
    if (next) show(next);
  }
  return {
    get queue() { return waiting ? 1 : 0; },
    // While one is decoded only the newest waits.
    feed(buffer) { if (busy) waiting = buffer; else show(buffer); },
    open() { waiting = null; },
    painted: () => drawn,
    codec: () => 'JPEG',
    stop() { over = true; canvas.remove(); },
  };
}

return { webcodecs, mse, mjpeg };
};
