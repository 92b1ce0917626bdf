"use strict";
// The way back from numbers.packed.
const arrays = {
  uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array,
  int32: Int32Array, uint64: BigUint64Array, int64: BigInt64Array, float32: Float32Array, float64: Float64Array,
};
async function inflated(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
async function unpacked(text, type, samples, columns, like) {
  const bytes = await inflated(text);
  const size = Math.min(type.BYTES_PER_ELEMENT, 4);
  const stride = type.BYTES_PER_ELEMENT / size;
  const row = samples * stride;
  const words = new { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array }[size](bytes.length / size);
  let next = 0;
  for (let word = 0; word < row; word++) {
    for (let byte = 0; byte < size; byte++) {
      for (let i = word; i < words.length; i += row) words[i] |= bytes[next++] << (8 * byte);
    }
  }
  if (like) {
    const others = new words.constructor(like.buffer);
    for (let i = 0; i < words.length; i++) words[i] += others[i];
  } else {
    for (let i = row; i < words.length; i++) {
      if (i % (row * columns) >= row) words[i] += words[i - row];
    }
    for (let i = 0; i < words.length; i++) {
      if (i % row >= stride) words[i] += words[i - stride];
    }
  }
  return new type(words.buffer);
}

