"use strict";
// Pictures of every pixel, drawn from the numbers of the page as colour.Scale does it.
function stepOf({ low, high, root, colours }) {
  const bent = (value) => (root ? Math.sign(value) * Math.sqrt(Math.abs(value)) : value);
  const [start, length, last] = [bent(low), bent(high) - bent(low), colours.length / 3 - 1];
  return (value) => {
    const place = Math.min(Math.max((bent(value) - start) / length, 0), 1) * last;
    if (Number.isNaN(place)) return last + 1;
    const step = Math.round(place);
    return step === place + 0.5 && step % 2 ? step - 1 : step; // halves to the even one
  };
}

// A bitmap of one byte a pixel with a palette, or of red, green and blue; its rows go down.
function bitmap(width, height, samples, values, scale) {
  const palette = samples === 1 ? 1024 : 0;
  const stride = Math.ceil((width * samples) / 4) * 4;
  const bytes = new Uint8Array(54 + palette + stride * height);
  const head = new DataView(bytes.buffer);
  bytes.set([66, 77]);
  head.setUint32(2, bytes.length, true);
  head.setUint32(10, 54 + palette, true);
  head.setUint32(14, 40, true);
  head.setInt32(18, width, true);
  head.setInt32(22, -height, true);
  head.setUint16(26, 1, true);
  head.setUint16(28, 8 * samples, true);
  const { colours, missing } = scale;
  for (let i = 0; i < palette / 4; i++) {
    const [r, g, b] = i < colours.length / 3 ? colours.slice(3 * i, 3 * i + 3) : missing;
    bytes.set([b, g, r], 54 + 4 * i);
  }
  const step = stepOf(scale);
  for (let y = 0, from = 0; y < height; y++) {
    const start = 54 + palette + y * stride;
    for (let x = 0; x < width * samples; x += samples, from += samples) {
      for (let i = 0; i < samples; i++) bytes[start + x + i] = step(values[from + samples - 1 - i]);
    }
  }
  return URL.createObjectURL(new Blob([bytes], { type: "image/bmp" }));
}

// Test less reference, of the channel that differs most.
function differences(reference, test, channels) {
  const found = new Float64Array(reference.length / channels);
  for (let i = 0; i < reference.length; i++) {
    const difference = test[i] - reference[i];
    const at = Math.floor(i / channels);
    if (Math.abs(difference) > Math.abs(found[at])) found[at] = difference;
  }
  return found;
}
