// Runs in the watched page before its own scripts: reads what is on the screen, independently of the page's own figures.
'use strict';
const probe = (() => {
const COLUMNS = 14, ROWS = 2, CELL = 4, MODULUS = 1 << 20;
const violations = [];
addEventListener('securitypolicyviolation', e => violations.push(`${e.violatedDirective}: ${e.blockedURI || 'inline'}`));

const small = document.createElement('canvas'), context = small.getContext('2d', { willReadFrequently: true, alpha: false });
function pixels(sx, sy, sw, sh, width, height) {
  const el = shown();
  if (!el) return null;
  small.width = width;
  small.height = height;
  context.imageSmoothingEnabled = false;
  context.drawImage(el, sx, sy, sw, sh, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}
const size = el => [el.videoWidth || el.naturalWidth || el.width, el.videoHeight || el.naturalHeight || el.height];
function shown() {
  // An image whose connection broke keeps its size, but cannot be drawn.
  const ready = el => {
    if (!el.checkVisibility() || !size(el)[0] || el.readyState < 2) return false;
    try { context.drawImage(el, 0, 0, 1, 1); } catch { return false; }
    return true;
  };
  return [...document.querySelectorAll('#picture > *')].filter(ready).pop() || null;
}

// The scene's time mark: wall-clock milliseconds modulo 2^20 in 14 x 2 squares; null where there is no clear one.
function mark() {
  const el = shown();
  if (!el) return null;
  const [w, h] = size(el), side = [w * 48 / 1280, h * 48 / 720];
  const data = pixels(side[0], side[1], COLUMNS * side[0], ROWS * side[1], COLUMNS * CELL, ROWS * CELL);
  const light = [];
  for (let i = 0; i < COLUMNS * ROWS; i++) {
    let sum = 0;
    for (const [dx, dy] of [[1, 1], [2, 1], [1, 2], [2, 2]])
      sum += data[4 * (((Math.floor(i / COLUMNS) * CELL + dy) * COLUMNS + i % COLUMNS) * CELL + dx) + 1];
    light.push(sum / 4);
  }
  const [white, black] = light, span = white - black;
  if (span < 80) return null;
  const bits = light.slice(2).map(v => v - (white + black) / 2);
  if (bits.some(v => Math.abs(v) < span / 5)) return null;
  const number = list => list.reduce((n, v) => 2 * n + (v > 0), 0), value = number(bits.slice(0, 20));
  return number(bits.slice(20)) === ((value ^ value >> 6 ^ value >> 12 ^ value >> 18 ^ 0x2a) & 63) ? value : null;
}

// One reading for each rendering update, while asked for.
let watched = null, first = null, before = null;
function watch() {
  const value = mark();
  if (value !== null && first === null) first = performance.now();
  if (watched && value !== null) {
    if (watched.last !== null && value !== watched.last) watched.seen++;
    watched.last = value;
  }
  if (watched || first === null) requestAnimationFrame(watch);
}
requestAnimationFrame(watch);

const now = () => Date.now() % MODULUS;
return {
  violations, mark,
  get first() { return first; },
  words: () => {
    const overlay = document.getElementById('overlay');
    return overlay && !overlay.hidden ? document.getElementById('message').innerText.trim() : '';
  },
  // How old the picture is, in ms.
  age: () => { const value = mark(); return value === null ? null : (now() - value + MODULUS) % MODULUS; },
  forget() { before = mark(); },
  fresh() { const value = mark(); return value !== null && value !== before; },
  count(ms) {
    const from = performance.now(), painted = gsk.stats().painted;
    watched = { seen: 0, last: null };
    requestAnimationFrame(watch);
    return new Promise(resolve => setTimeout(() => {
      const seconds = (performance.now() - from) / 1000, after = gsk.stats().painted;
      resolve({ marks: watched.seen / seconds, painted: painted === null ? null : (after - painted) / seconds });
      watched = null;
    }, ms));
  },
  // The picture, 64 x 36, without the part that holds the mark and the captions: [r, g, b, ...].
  thumb() {
    const el = shown();
    if (!el) return null;
    const [w, h] = size(el), data = pixels(0, h * .25, w, h * .65, 64, 36), out = [];
    for (let i = 0; i < data.length; i++) if (i % 4 < 3) out.push(data[i]);
    return out;
  },
  // Means of the middle halves of a grid of patches: [[r, g, b], ...].
  patches(columns, rows) {
    const el = shown();
    if (!el) return null;
    const [w, h] = size(el), out = [];
    for (let i = 0; i < columns * rows; i++) {
      const pw = w / columns, ph = h / rows, sums = [0, 0, 0];
      const data = pixels((i % columns + .25) * pw, (Math.floor(i / columns) + .25) * ph, pw / 2, ph / 2, pw / 2, ph / 2);
      for (let k = 0; k < data.length; k++) if (k % 4 < 3) sums[k % 4] += data[k];
      out.push(sums.map(s => s * 4 / data.length));
    }
    return out;
  },
  clipped: () => [...document.querySelectorAll('button, select, #panel, #help, #bar, #message, #notice')].filter(el => el.checkVisibility()).filter(el => {
    const r = el.getBoundingClientRect();
    return r.left < 0 || r.top < 0 || r.right > innerWidth || r.bottom > innerHeight;
  }).map(el => el.id),
};
})();
window.probe = probe;
