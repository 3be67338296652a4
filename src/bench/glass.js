// Runs in the watched page before its own scripts. Reads the scene's time mark off each picture in the moment in which the
// page shows it, and notes how old it is: from the wall clock that the picture shows to its painting.
//
// Painted is, of a <video>, requestVideoFrameCallback's presentationTime (the hand-over to the compositor), and of a canvas
// the return of the call that puts the picture into it.
'use strict';
(() => {
  if (window !== top) return;
  const COLUMNS = 14, ROWS = 2, SIDE = 4, MODULO = 1 << 20, OLDEST_MS = 60000, PAUSE_MS = 60;
  // Date.now() has whole milliseconds: in the moment in which it turns it is exact, and tells how far performance.now() is off.
  // A page that is interrupted in between finds less: of several the most is right.
  let skew = -Infinity;
  for (let i = 0; i < 5; i++) {
    const turn = Date.now();
    let now = turn;
    while (now === turn) now = Date.now();
    skew = Math.max(skew, now - (performance.timeOrigin + performance.now()));
  }
  const wall = at => performance.timeOrigin + at + skew;

  const small = document.createElement('canvas');
  small.width = COLUMNS * SIDE;
  small.height = ROWS * SIDE;
  const context = small.getContext('2d', { willReadFrequently: true, alpha: false });
  context.imageSmoothingEnabled = false;
  // The time that a picture shows, modulo 2^20 ms; -1 where it cannot be read.
  function mark(picture, width, height) {
    const w = width * 48 / 1280, h = height * 48 / 720;
    context.drawImage(picture, w, h, COLUMNS * w, ROWS * h, 0, 0, small.width, small.height);
    const pixels = context.getImageData(0, 0, small.width, small.height).data;
    const light = cell => {
      let sum = 0;
      for (const y of [1, 2]) for (const x of [1, 2]) {
        const at = 4 * ((Math.floor(cell / COLUMNS) * SIDE + y) * small.width + cell % COLUMNS * SIDE + x);
        sum += pixels[at] + 2 * pixels[at + 1] + pixels[at + 2];
      }
      return sum / 16;
    };
    const white = light(0), black = light(1);
    if (white - black < 80) return -1;
    let code = 0;
    for (let cell = 2; cell < COLUMNS * ROWS; cell++) {
      const over = light(cell) - (white + black) / 2;
      if (Math.abs(over) < (white - black) / 5) return -1;
      code = code * 2 + (over > 0 ? 1 : 0);
    }
    const value = code >> 6;
    return ((value ^ value >> 6 ^ value >> 12 ^ value >> 18 ^ 0x2a) & 63) === (code & 63) ? value : -1;
  }

  const samples = [];
  let unreadable = 0, last = -1e9, shown = -1;
  // Reading a picture costs the page time: not every one is.
  function look(picture, width, height, painted) {
    if (painted - last < PAUSE_MS || width < 320 || height < 180) return;
    last = painted;
    const value = mark(picture, width, height), at = wall(painted);
    // The mark's whole milliseconds are cut off: the moment is half of one later in the mean.
    const age = value < 0 ? -1 : ((at - value - 0.5) % MODULO + MODULO) % MODULO;
    if (value < 0 || age > OLDEST_MS) unreadable++;
    else if (value !== shown) samples.push(age);
    shown = value;
  }

  const transfer = ImageBitmapRenderingContext.prototype.transferFromImageBitmap;
  ImageBitmapRenderingContext.prototype.transferFromImageBitmap = function (bitmap) {
    transfer.call(this, bitmap);
    const painted = performance.now();
    if (bitmap) look(this.canvas, this.canvas.width, this.canvas.height, painted);
  };
  function follow(video) {
    const each = (now, { presentationTime, width, height }) => {
      video.requestVideoFrameCallback(each);
      look(video, width, height, presentationTime);
    };
    video.requestVideoFrameCallback(each);
  }
  addEventListener('DOMContentLoaded', () => document.querySelectorAll('video').forEach(video => {
    if (video.requestVideoFrameCallback) follow(video);
  }));

  window.__gskGlass = () => {
    const stats = window.gsk ? window.gsk.stats() : {};
    const total = stats.latency && stats.latency.total;
    return { samples: samples.splice(0), unreadable, skew, page: total ? total.p50 : null, via: stats.via || null,
      state: stats.state || null, reason: stats.reason || '', width: stats.width || 0, height: stats.height || 0 };
  };
})();
