"use strict";
// Linked pictures: one spot, marked on all of them, with the numbers of every layer there.
(() => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data").textContent);
  const arrays = {
    uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array,
    uint32: Uint32Array, int32: Int32Array, float32: Float32Array, float64: Float64Array,
  };
  for (const layer of data.layers) {
    const bytes = Uint8Array.from(atob(layer.values), (c) => c.charCodeAt(0));
    layer.numbers = new arrays[layer.dtype](bytes.buffer);
    delete layer.values;
  }
  const [reference, test] = data.layers;
  const mask = Uint8Array.from(atob(data.mask), (c) => c.charCodeAt(0));
  const frames = [...document.querySelectorAll(".frame")];
  const images = frames.map((frame) => frame.querySelector("img"));
  const spots = frames.map((frame) => frame.querySelector(".spot"));
  const { width, height, step, columns, rows, channels } = data;
  const state = { x: 0, y: 0, shown: false, pinned: false, zoom: 1, left: 0, top: 0 };

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const used = (cell) => (mask[cell >> 3] >> (cell & 7)) & 1;

  // The shortest decimal that tells the number from its neighbours of the same type.
  function text(value, digits) {
    if (Number.isNaN(value)) return "NaN";
    if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
    return String(Number(value.toPrecision(digits)));
  }
  const digitsOf = (layer) => ({ float32: 7, float64: 15 })[layer.dtype] || 17;
  const pixel = (layer, cell) =>
    Array.from(layer.numbers.subarray(cell * channels, (cell + 1) * channels));

  function values(cell) {
    const a = pixel(reference, cell);
    const b = pixel(test, cell);
    const digits = Math.min(digitsOf(reference), digitsOf(test));
    const found = {
      reference: a.map((v) => text(v, digitsOf(reference))).join(", "),
      test: b.map((v) => text(v, digitsOf(test))).join(", "),
      difference: b.map((v, i) => (v > a[i] ? "+" : "") + text(v - a[i], digits)).join(", "),
    };
    for (const layer of data.layers.slice(2)) {
      const value = layer.numbers[cell];
      const missing = used(cell) ? "not scored" : "masked";
      found[layer.name] = Number.isNaN(value) ? missing : text(value, 5);
    }
    return found;
  }

  function draw() {
    const { zoom, left, top } = state;
    root.classList.toggle("zoomed", zoom > 1);
    for (const image of images) {
      image.style.transform = `translate(${-left * zoom * 100}%, ${-top * zoom * 100}%) scale(${zoom})`;
    }
    if (!state.shown) return;
    const u = Math.min((state.x + 0.5) * step, width) / width;
    const v = Math.min((state.y + 0.5) * step, height) / height;
    for (const spot of spots) {
      spot.style.left = `${(u - left) * zoom * 100}%`;
      spot.style.top = `${(v - top) * zoom * 100}%`;
    }
  }

  function show(x, y) {
    state.x = clamp(Math.floor(x), 0, columns - 1);
    state.y = clamp(Math.floor(y), 0, rows - 1);
    state.shown = true;
    root.classList.add("spotted");
    const cell = state.y * columns + state.x;
    const found = values(cell);
    const place = `${state.x * step}, ${state.y * step}`;
    found.place = place + (used(cell) ? "" : " (masked)") + (state.pinned ? " (held)" : "");
    for (const element of document.querySelectorAll("[data-value]")) {
      element.textContent = found[element.dataset.value];
    }
    root.dataset.spot = place;
    draw();
  }

  function pin(on) {
    state.pinned = on;
    show(state.x, state.y);
  }

  function look(zoom, u, v) {
    state.zoom = clamp(zoom, 1, 64);
    const room = 1 - 1 / state.zoom;
    state.left = clamp(u - 0.5 / state.zoom, 0, room);
    state.top = clamp(v - 0.5 / state.zoom, 0, room);
    draw();
  }

  const middle = () => [state.left + 0.5 / state.zoom, state.top + 0.5 / state.zoom];
  const ofSpot = () => [((state.x + 0.5) * step) / width, ((state.y + 0.5) * step) / height];
  const actions = {
    in: () => look(state.zoom * 2, ...(state.shown ? ofSpot() : middle())),
    out: () => look(state.zoom / 2, ...middle()),
    whole: () => look(1, 0.5, 0.5),
  };
  const keys = { "+": "in", "=": "in", "-": "out", 0: "whole" };
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (arrows[event.key]) {
      const [dx, dy] = arrows[event.key].map((d) => d * (event.shiftKey ? 10 : 1));
      show(state.x + (state.shown ? dx : 0), state.y + (state.shown ? dy : 0));
      const [u, v] = ofSpot();
      const inside = (w, start) => w >= start && w <= start + 1 / state.zoom;
      if (!inside(u, state.left) || !inside(v, state.top)) look(state.zoom, u, v);
    } else if (event.key === "Enter" || event.key === " ") {
      pin(!state.pinned);
    } else if (event.key === "Escape") {
      pin(false);
    } else if (keys[event.key]) {
      actions[keys[event.key]]();
    } else {
      return;
    }
    event.preventDefault();
  }

  let drag = null;
  function under(event) {
    const box = event.currentTarget.getBoundingClientRect();
    const u = state.left + (event.clientX - box.left) / box.width / state.zoom;
    const v = state.top + (event.clientY - box.top) / box.height / state.zoom;
    return [(u * width) / step, (v * height) / step];
  }
  function onMove(event) {
    if (drag && state.zoom > 1) {
      const box = event.currentTarget.getBoundingClientRect();
      const dx = (event.clientX - drag.x) / box.width / state.zoom;
      const dy = (event.clientY - drag.y) / box.height / state.zoom;
      drag.moved = drag.moved || Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 4;
      if (drag.moved) look(state.zoom, drag.u - dx, drag.v - dy);
    } else if (!state.pinned) {
      show(...under(event));
    }
  }
  function onDown(event) {
    const [u, v] = middle();
    drag = { x: event.clientX, y: event.clientY, u, v, moved: false };
  }
  function onClick(event) {
    const dragged = drag && drag.moved;
    drag = null;
    if (dragged) return;
    const [x, y] = under(event).map(Math.floor);
    const same = state.pinned && x === state.x && y === state.y;
    show(x, y);
    pin(!same);
  }

  for (const frame of frames) {
    frame.addEventListener("pointermove", onMove);
    frame.addEventListener("pointerdown", onDown);
    frame.addEventListener("pointerleave", () => { drag = null; });
    frame.addEventListener("click", onClick);
    frame.addEventListener("keydown", onKey);
  }
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", actions[button.dataset.zoom]);
  }

  // A link such as #12,34 points to a spot.
  function fromAddress() {
    const found = /^#(\d+),(\d+)$/.exec(location.hash);
    if (!found) return;
    show(Number(found[1]) / step, Number(found[2]) / step);
    pin(true);
  }
  for (const link of document.querySelectorAll("a[href^='#']")) {
    link.addEventListener("click", () => setTimeout(fromAddress)); // also if the address stays
  }
  fromAddress();
  root.dataset.ready = "yes";
})();
