// The bit rate that is asked of the encoder, and the one that it makes: a choice for who may steer.
'use strict';
const bitrate_choice = page => {
const { $, send, may_steer } = page;
const list = $('bitrate'), SHARES = [1, 2, 4, 8], LEAST = 100000;
let offered = '', chosen = 0, chosenAt = -1e9;

const in_words = bps => `${+(bps / 1e6).toFixed(2)} Mbit/s`;

// Half, and half again; and what another client has asked for, where that is none of these.
function offer(most, asked) {
  const rates = SHARES.map(n => Math.round(most / n)).filter(bps => bps >= LEAST);
  if (!rates.includes(asked)) rates.push(asked);
  rates.sort((a, b) => b - a);
  const key = rates.join();
  if (key === offered) return;
  offered = key;
  list.replaceChildren(...rates.map(bps => new Option(in_words(bps) + (bps === most ? ' (most)' : ''), bps)));
}

// What the server says of it, once a second. It is offered for H.264: that of JPEG may be fixed.
function show(server, config) {
  const most = server && server.bitrate_most_bps, shown = Boolean(page.steers() && most && config && config.codec !== 'mjpeg');
  $('quality').hidden = !shown;
  if (!shown) return;
  // A choice just made is not overruled by what was said before it arrived.
  const asked = performance.now() - chosenAt < 2000 ? chosen : server.bitrate_asked_bps;
  offer(most, asked);
  if (list.value !== String(asked)) list.value = asked;
  list.disabled = !may_steer();
  const text = server.bitrate_bps === null ? '' : `now ${(server.bitrate_bps / 1e6).toFixed(2)}`;
  if ($('made').textContent !== text) $('made').textContent = text;
}

list.onchange = () => {
  chosen = Number(list.value);
  chosenAt = performance.now();
  send({ type: 'quality', bitrate_bps: chosen });
};
return { show };
};
