// Runs in a watched page before its own scripts, and plants a delay in one of its steps: `late({ decode: 30 })` has each
// decoder give its picture 30 ms later, `late({ paint: 30 })` has each picture shown so much later.
'use strict';
function late({ decode = 0, paint = 0 }) {
  // The page's worker is made from text that is in the page: this comes before it.
  const inside = `{
    const Decoder = VideoDecoder, { write } = WritableStreamDefaultWriter.prototype;
    VideoDecoder = class extends Decoder {
      constructor({ output, error }) { super({ output: frame => setTimeout(output, ${decode}, frame), error }); }
    };
    WritableStreamDefaultWriter.prototype.write = function (frame) {
      return new Promise(resolve => setTimeout(resolve, ${paint})).then(() => write.call(this, frame));
    };
  }`;
  window.Blob = class extends Blob {
    constructor(parts, options) {
      super(options && options.type === 'text/javascript' ? [inside, ...parts] : parts, options);
    }
  };
  const { createImageBitmap } = window, { prototype } = ImageBitmapRenderingContext, { transferFromImageBitmap } = prototype;
  window.createImageBitmap = async (...words) => {
    const bitmap = await createImageBitmap(...words);
    await new Promise(resolve => setTimeout(resolve, decode));
    return bitmap;
  };
  prototype.transferFromImageBitmap = function (bitmap) {
    const until = performance.now() + paint;
    while (performance.now() < until);
    transferFromImageBitmap.call(this, bitmap);
  };
}
