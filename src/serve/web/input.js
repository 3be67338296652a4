// The person's input on the picture: pointer, wheel, touch and keys, as gsk.v1 `input` messages.
'use strict';
const steering = page => {
const { stage, send, sent, may_steer, watch_paint } = page;
let view = 0;

function input(event, more) {
  if (!may_steer()) return;
  view++;
  sent.set(view, performance.now());
  if (sent.size > 300) sent.delete(sent.keys().next().value);
  send({ type: 'input', view, event, ...more });
  watch_paint();
}

const round = x => Math.round(x * 1e5) / 1e5;
const place = e => ({ x: round((e.clientX - page.box().left) / page.box().width), y: round((e.clientY - page.box().top) / page.box().height) });
const inside = p => p.x >= 0 && p.x <= 1 && p.y >= 0 && p.y <= 1;

// The first of a burst goes out at once; what follows within 16 ms is gathered, so at most 60 a second leave.
function paced(go) {
  let timer = 0, last = -1e9;
  const fire = () => { timer = 0; last = performance.now(); go(); };
  return {
    soon() { if (!timer) { const wait = last + 16 - performance.now(); if (wait <= 0) fire(); else timer = setTimeout(fire, wait); } },
    flush() { if (timer) { clearTimeout(timer); fire(); } },
  };
}

let last = { x: .5, y: .5 }, buttons = 0, down = false, pending = null, spin = null;
// A drag may leave the picture; what is sent stays on it.
const clamp = x => Math.min(1, Math.max(0, x));
function point(at, pressed, shift) {
  const p = { x: clamp(at.x), y: clamp(at.y) };
  input('pointer', { ...p, dx: round(p.x - last.x), dy: round(p.y - last.y), buttons: pressed, shift });
  last = p;
  buttons = pressed;
}
const moves = paced(() => { if (pending) point(pending.p, pending.buttons, pending.shift); pending = null; });
const turns = paced(() => { if (spin) input('wheel', spin); spin = null; });
function move(p, pressed, shift) { pending = { p, buttons: pressed, shift }; moves.soon(); }
function turn(p, dx, dy) {
  spin = { ...p, dx: (spin ? spin.dx : 0) + dx, dy: (spin ? spin.dy : 0) + dy };
  turns.soon();
}

const fingers = new Map();
let pinch = null;   // two fingers: their centre and distance
const centre = () => {
  const [a, b] = [...fingers.values()];
  return { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2, apart: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) };
};

function press(e) {
  stage.focus({ preventScroll: true });
  const p = place(e);
  if (e.pointerType === 'touch') {
    fingers.set(e.pointerId, e);
    if (fingers.size > 2) return;
    if (fingers.size === 2) {
      moves.flush();
      point(last, 0, false);
      pinch = centre();
      last = place(pinch);
      return point(last, 4, false);
    }
  }
  if (!inside(p)) return;
  down = true;
  stage.setPointerCapture(e.pointerId);
  moves.flush();
  if (e.pointerType === 'touch') last = p;
  point(p, e.buttons, e.shiftKey);
}
function drag(e) {
  if (!fingers.has(e.pointerId)) {
    const p = place(e);
    if (!inside(p) && !down) return;
    if (e.buttons !== buttons) moves.flush();   // a second button pressed or let go is no mere move
    return move(p, e.buttons, e.shiftKey);
  }
  fingers.set(e.pointerId, e);
  if (!pinch && !down) return;
  if (!pinch) return move(place(e), e.buttons, e.shiftKey);
  if (fingers.size !== 2) return;
  const now = centre(), grown = now.apart - pinch.apart;
  move(place(now), 4, false);
  if (grown) turn(place(now), 0, round(-grown));
  pinch = now;
}
function release(e) {
  const touch = fingers.delete(e.pointerId);
  moves.flush();
  if (pinch) {
    // A finger that stays down after a pinch must not jerk the picture: the gesture ends with the last one.
    if (fingers.size === 1) point(last, 0, false);
    if (!fingers.size) {
      pinch = null;
      down = false;
    }
    return;
  }
  if (!down) return;
  down = false;
  point(place(e), touch || e.type === 'pointercancel' ? 0 : e.buttons, e.shiftKey);
}

const held = new Set(), MODIFIERS = ['Shift', 'Control', 'Alt', 'AltGraph', 'Meta', 'CapsLock', 'NumLock', 'Fn', 'Dead', 'Process', 'Unidentified', 'OS'];
function key_down(e) {
  if (e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey || e.isComposing) return;
  if (document.activeElement !== stage || !may_steer() || e.key === 'Tab' || /^F\d+$/.test(e.key) || MODIFIERS.includes(e.key)) return;
  e.preventDefault();
  if (e.repeat) return;
  held.add(e.key);
  input('key', { key: e.key, down: true });
}
function key_up(e) { if (held.delete(e.key)) input('key', { key: e.key, down: false }); }
function let_go() {
  for (const key of held) input('key', { key, down: false });
  held.clear();
}
let resizeTimer = 0;
addEventListener('resize', () => {
  clearTimeout(resizeTimer);
  resizeTimer = setTimeout(() => input('resize', { width: Math.round(stage.clientWidth * devicePixelRatio), height: Math.round(stage.clientHeight * devicePixelRatio) }), 250);
});
stage.addEventListener('pointerdown', press);
stage.addEventListener('pointermove', drag);
stage.addEventListener('pointerup', release);
stage.addEventListener('pointercancel', release);
stage.addEventListener('contextmenu', e => e.preventDefault());
stage.addEventListener('wheel', e => {
  e.preventDefault();
  const unit = e.deltaMode === 1 ? 16 : e.deltaMode === 2 ? page.box().height : 1, p = place(e);
  if (inside(p)) turn(p, round(e.deltaX * unit), round(e.deltaY * unit));
}, { passive: false });
stage.addEventListener('blur', let_go);
addEventListener('keydown', key_down);
addEventListener('keyup', key_up);
return { let_go };
};
