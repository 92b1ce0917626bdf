// Three cuts through two volumes: sliders move them, and a tap on one moves the others.
(async () => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data").textContent);
  const { sides, step, place, flips, lengths, cuts } = data;
  const names = ["depth", "height", "width"];
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const frames = [...document.querySelectorAll(".frame")];
  const cutOf = (element) => cuts.find(([axis]) => axis === Number(element.dataset.axis));
  for (const frame of frames) {
    const [, rows, columns] = cutOf(frame);
    const ratio = (sides[columns] * lengths[columns]) / (sides[rows] * lengths[rows]);
    frame.style.aspectRatio = ratio;
    frame.style.maxWidth = `max(5rem, ${28 * ratio}rem)`; // a tall cut is not higher than the window
  }

  // The copy: a code for each block, or its red, green and blue.
  const blocks = sides.map((side, axis) => Math.ceil(side / step[axis]));
  const strides = [blocks[1] * blocks[2], blocks[2], 1];
  const layers = {};
  for (const [name, { values, like, palette }] of Object.entries(data.layers)) {
    const samples = palette ? 1 : 3;
    const codes = await unpacked(values, Uint8Array, samples, blocks[2], like && layers[like].codes);
    layers[name] = { codes, samples, palette: palette && (await inflated(palette)) };
  }
  const mask = data.mask && (await inflated(data.mask));
  const used = (block) => !mask || (mask[block >> 3] >> (block & 7)) & 1;

  function paint(canvas, layer, [axis, rows, columns], at) {
    const { codes, samples, palette } = layer;
    const [height, width] = [blocks[rows], blocks[columns]];
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    const broad = Math.max(1, Math.floor(Math.min(height, width) / 100));
    const start = Math.floor(at / step[axis]) * strides[axis];
    let out = 0;
    for (let j = 0; j < height; j++) {
      for (let i = 0; i < width; i++) {
        const block = start + j * strides[rows] + i * strides[columns];
        const striped = !used(block);
        const more = Math.floor((i + j) / broad) % 4 < 2 ? 150 : 20;
        for (let channel = 0; channel < 3; channel++) {
          const value = palette ? palette[3 * codes[block] + channel] : codes[samples * block + channel];
          image.data[out++] = striped ? Math.floor(value / 3) + more : value;
        }
        image.data[out++] = 255;
      }
    }
    context.putImageData(image, 0, 0);
  }

  const state = [...place];
  const painted = new Map();
  const index = (axis) => (flips[axis] ? sides[axis] - 1 - state[axis] : state[axis]);
  function show(at) {
    at.forEach((value, axis) => { state[axis] = clamp(Math.floor(value), 0, sides[axis] - 1); });
    for (const frame of frames) {
      const cut = cutOf(frame);
      const [axis, rows, columns] = cut;
      // The picture of the worst plane is finer than the copy.
      frame.classList.toggle("copied", state[axis] !== place[axis]);
      if (state[axis] !== place[axis] && painted.get(frame) !== state[axis]) {
        paint(frame.querySelector("canvas"), layers[frame.dataset.layer], cut, state[axis]);
        painted.set(frame, state[axis]);
      }
      const spot = frame.querySelector(".spot");
      spot.style.left = `${((state[columns] + 0.5) / sides[columns]) * 100}%`;
      spot.style.top = `${((state[rows] + 0.5) / sides[rows]) * 100}%`;
    }
    for (const slider of document.querySelectorAll("input[type=range]")) {
      const axis = Number(slider.dataset.axis);
      slider.value = state[axis];
      slider.setAttribute("aria-valuetext", `${names[axis]} ${index(axis)}`);
    }
    for (const output of document.querySelectorAll("output")) {
      const axis = Number(output.dataset.axis);
      output.textContent = `${names[axis]} ${index(axis)}`;
    }
    const here = state.every((value, axis) => value === place[axis]);
    document.getElementById("at").textContent = here
      ? "" : `now at ${names.map((name, axis) => `${name} ${index(axis)}`).join(", ")}`;
    document.getElementById("back").disabled = here;
    root.dataset.spot = [0, 1, 2].map(index).join(", ");
  }
  function moved(changes) {
    const at = [...state];
    for (const [axis, value] of changes) at[axis] = value;
    show(at);
  }

  function toPointer(event) {
    const frame = event.currentTarget;
    const [, rows, columns] = cutOf(frame);
    const box = frame.getBoundingClientRect();
    moved([
      [columns, ((event.clientX - box.left) / box.width) * sides[columns]],
      [rows, ((event.clientY - box.top) / box.height) * sides[rows]],
    ]);
  }
  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [axis, rows, columns] = cutOf(event.currentTarget);
    const ways = {
      ArrowLeft: [columns, -1], ArrowRight: [columns, 1], ArrowUp: [rows, -1], ArrowDown: [rows, 1],
      PageUp: [axis, -1], PageDown: [axis, 1],
    };
    if (!ways[event.key]) return;
    const [along, by] = ways[event.key];
    moved([[along, state[along] + by * (event.shiftKey ? 10 : 1)]]);
    event.preventDefault();
  }
  for (const frame of frames) {
    frame.addEventListener("click", toPointer);
    frame.addEventListener("pointermove", (event) => { if (event.buttons & 1) toPointer(event); });
    frame.addEventListener("keydown", onKey);
  }
  for (const slider of document.querySelectorAll("input[type=range]")) {
    slider.addEventListener("input", () => moved([[Number(slider.dataset.axis), Number(slider.value)]]));
  }
  document.getElementById("back").addEventListener("click", () => show(place));
  root.classList.add("spotted");
  show(place);
  root.dataset.ready = "yes";
})().catch((error) => {
  document.getElementById("at").textContent = `The sliders do not work in this browser: ${error.message}`;
});
