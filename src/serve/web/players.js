// The three ways from the server to the screen. Each is a function that starts one and gives back:
// feed(buffer): one message of video; configure(config); open(): a connection has begun; resume(): the source is back;
// visible(): the tab is shown again; pause(): nobody watches for now; painted(): pictures shown so far, or null; queue; stop().
'use strict';
const players = page => {
const { $, link, count, frames, note, good, ask_key, fall_on, resized, painted, show_sink } = page;
const video = $('video'), Source = window.ManagedMediaSource || window.MediaSource;

// ---- Path 1: WebCodecs in a worker ----

function webcodecs() {
  const worker = new Worker(URL.createObjectURL(new Blob([$('worker').textContent], { type: 'text/javascript' })));
  const failures = [], memory = 'gsk.hardware-decoder-failed';
  const recall = () => { try { return localStorage.getItem(memory) === navigator.userAgent; } catch { return false; } };
  const remember = () => { try { localStorage.setItem(memory, navigator.userAgent); } catch { /* storage is closed to this page */ } };
  let suspect = false, drawn = 0, track = true;
  const self = {
    queue: 0,
    // The receive time needs no hop; the buffer is handed over, not copied.
    feed: buffer => worker.postMessage(buffer, [buffer]),
    open: () => worker.postMessage({ restart: true }),
    configure: c => worker.postMessage({ config: { codec: c.codec, width: c.width, height: c.height, colour: c.colour } }),
    painted: () => track ? video.getVideoPlaybackQuality().totalVideoFrames : drawn,
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
    if (data.first && suspect && data.software) remember();
    if (data.times && !link.picture && link.phase === 'open') good();
    if (data.needKey) ask_key();
    if (data.track) { video.srcObject = new MediaStream([data.track]); show_sink('video track'); }
    if (data.canvas) { track = false; show_sink('canvas'); }
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
    show_sink('video track');
  } else {
    given.canvas = $('canvas').transferControlToOffscreen();
  }
  worker.postMessage({ sink: given, software: recall() }, Object.values(given));
  return self;
}

// ---- Path 2: fragmented MP4 into MediaSource ----

function mse() {
  const media = new Source(), todo = [];
  let buffer = null, opening = null, reading = false, lastKey = 0, type = '', ended = false;
  const ready = new Promise(resolve => media.addEventListener('sourceopen', resolve, { once: true }));
  video.disableRemotePlayback = true;
  video.src = URL.createObjectURL(media);
  show_sink('video');

  function next() {
    if (!buffer || buffer.updating || !todo.length) return;
    const item = todo.shift();
    if (item.key) lastKey = edge();
    try { buffer.appendBuffer(item.bytes); } catch (error) { fall_on(`MediaSource refused the stream: ${error.message}`); }
  }
  const edge = () => buffer && buffer.buffered.length ? buffer.buffered.end(buffer.buffered.length - 1) : 0;

  // A jump decodes from the last key frame on, so it is made where that is near; else a new one is asked for, and
  // playing faster bridges the wait.
  function follow() {
    if (ended || !buffer || !buffer.buffered.length) return;
    const end = edge(), start = buffer.buffered.start(buffer.buffered.length - 1), at = video.currentTime, behind = end - at;
    const stalled = video.readyState < 3;
    if (video.paused) video.play().catch(() => {});
    if (!video.seeking && (at < start || behind > 0.3 || (stalled && behind > 0.1))) {
      if (end - lastKey < 2) video.currentTime = Math.max(start, end - 0.03);
      else ask_key();
    }
    video.playbackRate = behind > 0.3 ? 1.5 : behind > 0.15 ? 1.1 : behind > 0.1 ? 1.05 : 1;
    if (end - start > 8) {
      if (lastKey > start + 1 && at > lastKey) { if (!buffer.updating) buffer.remove(0, lastKey); }
      else if (end - lastKey > 4) ask_key();   // the buffer can only be cut at a key frame
    }
  }
  function after() {
    if (!link.picture && link.phase === 'open' && video.readyState > 1) good();
    follow();
    next();
  }

  function codec_of(bytes) {
    for (let i = 0; i + 8 < bytes.length; i++)
      if (bytes[i] === 0x61 && bytes[i + 1] === 0x76 && bytes[i + 2] === 0x63 && bytes[i + 3] === 0x43)
        return 'avc1.' + [5, 6, 7].map(k => bytes[i + k].toString(16).padStart(2, '0').toUpperCase()).join('');
    return null;
  }
  // Whether a media fragment holds an IDR picture (lengths of 4 bytes before each NAL unit).
  function is_key(bytes, from) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let i = from; i + 5 <= bytes.length; i += 4 + view.getUint32(i)) if ((bytes[i + 4] & 31) === 5) return true;
    return false;
  }

  async function read() {
    reading = false;
    const abort = opening = new AbortController();
    const answer = await fetch('/stream.mp4?timeline=packed', { signal: abort.signal });
    if (!answer.ok) {
      const said = await answer.json().catch(() => ({}));
      if (said.state) page.refused(said);
      return;
    }
    const reader = answer.body.getReader();
    reading = true;
    let rest = new Uint8Array(0), from = 0;   // from: where the box being walked begins in rest
    for (;;) {
      const { done, value } = await reader.read();
      if (done) { reading = false; return; }
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
        const body = from + 8;
        from += length;
        if (kind !== 'moov' && kind !== 'mdat') continue;
        const bytes = rest.subarray(0, from);
        if (kind === 'moov') await begin(codec_of(bytes));
        todo.push({ bytes, key: kind === 'mdat' && is_key(bytes, body) });
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
        if (mine === generation) await new Promise(resolve => setTimeout(resolve, wait));
      }
    },
    resume() { if (!reading) self.open(); },
    painted: () => video.getVideoPlaybackQuality().totalVideoFrames,
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

// ---- Path 3: MJPEG in an <img> ----

function mjpeg() {
  let shown = null, image = null, timer = 0;
  const drop = el => { if (el) { el.onerror = null; el.src = ''; el.remove(); } };
  show_sink('image');
  const self = {
    queue: null,
    feed() {},
    // The old picture stays until the new stream has one: a fresh element each time.
    open() {
      clearInterval(timer);
      if (image !== shown) drop(image);
      image = new Image();
      image.alt = '';
      image.src = `/stream.mjpg?n=${Date.now()}`;
      image.onerror = () => { clearInterval(timer); note('stream.mjpg ended'); timer = setTimeout(() => { if (link.phase === 'open') self.open(); }, 1000); };
      $('picture').append(image);
      timer = setInterval(() => {
        if (!image.naturalWidth) return;
        clearInterval(timer);
        drop(shown);
        shown = image;
        resized(image.naturalWidth, image.naturalHeight);
        good();
      }, 50);
    },
    resume() { self.open(); },
    painted: () => null,
    pause() { clearInterval(timer); drop(image); },
    stop() { clearInterval(timer); drop(image); drop(shown); },
  };
  return self;
}

return { webcodecs, mse, mjpeg };
};
