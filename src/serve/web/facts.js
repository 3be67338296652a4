// The information panel: what is shown, how it comes, and how long each stage takes. `page.now()` says how things stand.
'use strict';
const facts_panel = page => {
const { $, set, measured, PATH_NAMES } = page;

const digits = (x, n = 1) => x === null || x === undefined ? '–' : x.toFixed(n);
const rows = new Map();
function row(parent, name, text, title) {
  let cell = rows.get(name);
  if (!cell) {
    const label = document.createElement('dt');
    cell = document.createElement('dd');
    label.textContent = name;
    parent.append(label, cell);
    rows.set(name, cell);
  }
  set(cell, text);
  if (cell.title !== title) cell.title = title;
  cell.hidden = cell.previousSibling.hidden = text === '';
}

const COVERS = {
  capture: 'server: taking the picture from the source', encode: 'server: from captured to encoded, with conversion and waits (from each frame\'s header)',
  network: 'from encoded on the server to received by this page', decode: 'from received to decoded', paint: 'from decoded to handed to the browser\'s compositor, or drawn; the display\'s own delay comes on top',
  total: 'from the start of the capture to the end of paint',
};
const lines = {};
// The figures as they are now.
function show() {
  const { via, sink, why, size, config, server, dropped, codec } = page.now();
  const list = $('facts'), fps = measured.rate('painted'), bits = measured.rate('bytes'), delays = measured.input_to_picture();
  const fallback = config && config.fallback;
  row(list, 'path', `${PATH_NAMES[via] || '–'}${sink ? ` → ${sink}` : ''}`, 'how pictures reach the screen');
  row(list, 'because', why, 'why not a quicker path');
  row(list, 'painted', fps === null ? '–' : `${digits(fps)} fps`, 'pictures shown by this page, over the last 2 s');
  row(list, 'received', bits === null ? '–' : `${(bits * 8 / 1e6).toFixed(2)} Mbit/s`, 'bytes of video received by this page, over the last 2 s');
  row(list, 'size', size.width ? `${size.width} × ${size.height}` : '–', 'of the picture, before it is fitted to the window');
  row(list, 'codec', codec, 'as the server declares it');
  const backend = server && server.backend ? server.backend.split(':').pop() : '–';
  row(list, 'encoder', config ? `${config.backend} (${config.hardware ? 'hardware' : 'software'})` : backend, 'the server\'s encoder');
  row(list, 'fallback', fallback ? `${fallback.from}: ${fallback.detail || fallback.cause}` : '–', fallback ? fallback.cause : 'the encoder is the one asked for');
  row(list, 'since', fallback ? new Date(fallback.since).toLocaleString() : '', fallback ? fallback.since : '');
  row(list, 'viewers', server && server.viewers !== null ? String(server.viewers) : '–', 'counted by the server');
  row(list, 'dropped', `${dropped} here, ${server && server.dropped !== null ? server.dropped : '–'} in all`, 'frames skipped because a viewer was too slow: this page since it was opened; all viewers as the server counts');
  row(list, 'input to picture', delays ? `${digits(delays.p50)} ms, p95 ${digits(delays.p95)}` : '–', 'from sending an input event to the first picture that shows it, over the last 5 s');
  const figures = measured.latency(), bar = $('bar-latency'), { best } = measured.clock;
  const exact = best ? `; clock offset known to ±${(best.rtt / 2).toFixed(1)} ms` : '; clock offset not known yet';
  Object.keys(COVERS).forEach((name, i) => {
    if (!lines[name]) {
      const tr = $('latency').tBodies[0].insertRow(), th = document.createElement('th');
      th.scope = 'row';
      th.textContent = name;
      tr.append(th);
      lines[name] = [tr.insertCell(), tr.insertCell(), tr];
      if (name !== 'total') bar.append(document.createElement('i'));
    }
    const [p50, p95, tr] = lines[name], figure = figures[name];
    set(p50, digits(figure && figure.p50));
    set(p95, digits(figure && figure.p95));
    tr.title = COVERS[name] + (name === 'network' || name === 'total' ? exact : '');
    if (name !== 'total') bar.children[i].style.flex = `${figure ? Math.max(0, figure.p50) : 0} 0 0`;
  });
}

function show_notes() {
  const add = (text, code) => {
    const p = document.createElement('p');
    p.textContent = text;
    if (code) p.append(Object.assign(document.createElement('code'), { textContent: code }));
    $('notes').append(p);
  };
  if (window.isSecureContext) return;
  const port = location.port || '80';
  add('WebCodecs, the quickest path, needs HTTPS or a tunnel. Run this, then open the address below it:', `ssh -L ${port}:127.0.0.1:${port} ${location.hostname}`);
  add('', `http://127.0.0.1:${port}/`);
}

return { show, show_notes };
};
