// The codec that this page asks for: the worker's, or ?codec=, where this browser decodes it; H.264 else, and why.
'use strict';
const codec_choice = ({ offered, query, note, notice }) => {
const NAMES = { h264: 'H.264', hevc: 'HEVC', av1: 'AV1' };
// What a decoder is asked about before the stream has said what it is: main profile, level 4 (1080p).
const PROBES = { hevc: 'hvc1.1.6.L120.90', av1: 'av01.0.08M.08' };
const Source = window.ManagedMediaSource || window.MediaSource;
const wish = query.get('codec'), known = wish in NAMES;
const self = { now: known ? wish : offered in NAMES ? offered : 'h264', why: '' };

const decodes = {
  webcodecs: codec => VideoDecoder.isConfigSupported({ codec }).then(answer => answer.supported, () => false),
  mse: codec => Source.isTypeSupported(`video/mp4; codecs="${codec}"`),
  mjpeg: () => true,
};

// H.264 from here on. Whether that is another than before.
self.settle_for_h264 = reason => {
  if (self.now === 'h264') return false;
  self.why = reason;
  self.now = 'h264';
  note(reason);
  notice(`${reason[0].toUpperCase()}${reason.slice(1)}. Now watching H.264.`);
  return true;
};
self.name = () => NAMES[self.now];
// Before a connection on a way to the screen.
self.settle = async via => {
  if (self.now === 'h264' || await decodes[via](PROBES[self.now])) return;
  self.settle_for_h264(`this browser cannot decode ${self.name()}`);
};
self.unknown = wish !== null && !known ? `?codec=${wish} is not known; it can be h264, hevc or av1.` : '';
return self;
};
