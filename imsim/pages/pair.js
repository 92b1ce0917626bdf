// Linked pictures: one spot, marked on all of them, with the numbers of every layer there.
(async () => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data").textContent);
  const { width, height, channels } = data;
  const [sizeOfReference, sizeOfTest] = data.sizes;
  const drawn = data.drawn.scales || {};
  for (const name of Object.keys(drawn)) {
    const detail = document.createElement("img");
    Object.assign(detail, { alt: "", className: "detail", draggable: false });
    document.querySelector(`#picture-${name} .frame img`).after(detail);
  }
  const large = largePicture(() => address());
  const frames = [...document.querySelectorAll(".frame")];
  const images = [...document.querySelectorAll(".frame img")];
  const spots = frames.map((frame) => frame.querySelector(".spot"));
  const state = { x: 0, y: 0, shown: false, pinned: false, zoom: 1, left: 0, top: 0 };
  const most = Math.max(64, width / 8, height / 8);
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  const { side } = data.pixels;
  const columns = Math.ceil(width / side);
  const rows = Math.ceil(height / side);
  const type = arrays[data.pixels.dtype];
  async function both(from, columns) {
    const reference = await unpacked(from.reference, type, channels, columns);
    return { reference, test: await unpacked(from.test, type, channels, columns, reference) };
  }
  const kept = await both(data.pixels, columns);
  const mask = await inflated(data.pixels.mask);
  const place = data.pixels.place && (await unpacked(data.pixels.place, Uint32Array, 1, columns));
  const at = data.pixels.links ? data.pixels.links.at : [];
  const linked = at.length ? await both(data.pixels.links, at.length) : null;
  const mapSide = data.maps.side;
  const mapColumns = Math.ceil(width / mapSide);
  const maps = {};
  for (const [name, values] of Object.entries(data.maps.values)) {
    maps[name] = await unpacked(values, Float32Array, 1, mapColumns);
  }

  // The fine pictures, from the numbers.
  for (const [name, scale] of Object.entries(drawn)) {
    const isImage = name === "reference" || name === "test";
    const of = isImage ? kept[name]
      : name === "difference" ? differences(kept.reference, kept.test, channels) : maps[name];
    const { colours, missing } = data.drawn;
    const source = bitmap(width, height, isImage ? channels : 1, of, { ...scale, colours: colours[scale.colours], missing });
    const copies = document.querySelectorAll(`:is(#picture-${name} .frame, .stage [data-of="${name}"]) .detail`);
    for (const copy of copies) {
      copy.src = source;
      await copy.decode().catch(() => copy.remove()); // the coarse one stays
    }
  }

  const used = (cell) => (mask[cell >> 3] >> (cell & 7)) & 1;
  const cellOf = (x, y) => Math.floor(y / side) * columns + Math.floor(x / side);
  const pixel = (image, cell) => Array.from(image.subarray(cell * channels, (cell + 1) * channels));

  // The shortest decimal that tells a pixel from its neighbours of the same type.
  const single = data.pixels.dtype === "float32";
  const double = data.pixels.dtype === "float64";
  function exact(value) {
    for (let digits = 6; single && digits < 9; digits++) {
      if (Math.fround(Number(value.toPrecision(digits))) === value) return text(value, digits);
    }
    return text(value, single ? 9 : 17);
  }
  function text(value, digits) {
    if (Number.isNaN(value)) return "NaN";
    if (value === Infinity || value === -Infinity) return value > 0 ? "∞" : "-∞";
    return String(digits < 17 ? Number(value.toPrecision(digits)) : value);
  }
  function change(from, to) {
    if (from === to) return "0";
    const value = single ? exact(Math.fround(to - from)) : text(to - from, double ? 15 : 17);
    return (to > from ? "+" : "") + value;
  }

  // How much a kept pixel differs; what cannot be subtracted differs most.
  function distance(cell) {
    if (!used(cell)) return -1;
    let largest = 0;
    for (let i = cell * channels; i < (cell + 1) * channels; i++) {
      const [a, b] = [kept.reference[i], kept.test[i]];
      if (a === b) continue;
      const d = Math.abs(Number(b - a));
      largest = Math.max(largest, Number.isNaN(d) ? Infinity : d);
    }
    return largest;
  }

  // Of the columns and rows of blocks that the pointer covers, the one that differs most.
  function pick(x, y, w, h) {
    let best = [Math.floor(x), Math.floor(y)];
    if (w <= 1 && h <= 1) return best;
    const ends = (from, size, number) =>
      [from - size / 2, from + size].map((v) => clamp(Math.floor(v / side), 0, number - 1));
    const [left, right] = ends(x, w, columns);
    const [top, bottom] = ends(y, h, rows);
    let largest = 0;
    for (let j = top; j <= bottom; j++) {
      for (let i = left; i <= right; i++) {
        const d = distance(j * columns + i);
        if (d > largest) [largest, best] = [d, [i * side, j * side]];
      }
    }
    return best;
  }

  const block = (x, y, side) =>
    [[x, width], [y, height]]
      .map(([v, end]) => [v - (v % side), Math.min(v - (v % side) + side, end) - 1])
      .map(([from, to]) => (from === to ? from : `${from} to ${to}`)).join(", ");

  const has = ([w, h], x, y) => x < w && y < h;
  function left(x, y) {
    if (used(cellOf(x, y))) return "";
    return has(sizeOfReference, x, y) && has(sizeOfTest, x, y) ? " (masked)" : " (only one has it)";
  }

  function values(x, y, link) {
    const cell = cellOf(x, y);
    const from = link < 0 ? kept : linked;
    const a = pixel(from.reference, link < 0 ? cell : link);
    const b = pixel(from.test, link < 0 ? cell : link);
    const [inReference, inTest] = [sizeOfReference, sizeOfTest].map((size) => has(size, x, y));
    const found = {
      reference: inReference ? a.map(exact).join(", ") : "none",
      test: inTest ? b.map(exact).join(", ") : "none",
      difference: inReference && inTest ? b.map((v, i) => change(a[i], v)).join(", ") : "none",
      pixels: link < 0 ? block(x, y, side) : "–",
      maps: block(x, y, mapSide),
    };
    for (const name of Object.keys(maps)) {
      const value = maps[name][Math.floor(y / mapSide) * mapColumns + Math.floor(x / mapSide)];
      const missing = left(x, y) === " (masked)" ? "masked" : "not scored";
      found[name] = Number.isNaN(value) ? missing : text(value, mapSide > 1 ? 4 : 5);
    }
    return found;
  }

  function draw() {
    const { zoom, left, top } = state;
    root.classList.toggle("zoomed", zoom > 1);
    for (const image of images) {
      image.style.transform = `translate(${-left * zoom * 100}%, ${-top * zoom * 100}%) scale(${zoom})`;
    }
    large.fit(zoom);
    if (!state.shown) return;
    const [u, v] = ofSpot();
    for (const spot of spots) {
      spot.style.left = `${(u - left) * zoom * 100}%`;
      spot.style.top = `${(v - top) * zoom * 100}%`;
    }
  }

  function show(x, y) {
    x = clamp(Math.floor(x), 0, width - 1);
    y = clamp(Math.floor(y), 0, height - 1);
    const link = at.findIndex(([i, j]) => i === x && j === y);
    if (place && link < 0) {
      const within = place[cellOf(x, y)];
      x += (within % side) - (x % side);
      y += Math.floor(within / side) - (y % side);
    }
    Object.assign(state, { x, y, shown: true });
    root.classList.add("spotted");
    const found = values(x, y, link);
    found.place = `${x}, ${y}` + left(x, y) + (state.pinned ? " (held)" : "");
    for (const element of document.querySelectorAll("[data-value]")) {
      element.textContent = found[element.dataset.value];
    }
    root.dataset.spot = `${x}, ${y}`;
    draw();
  }

  function pin(on) {
    state.pinned = on;
    show(state.x, state.y);
    address();
  }

  function look(zoom, u, v) {
    state.zoom = clamp(zoom, 1, most);
    const room = 1 - 1 / state.zoom;
    state.left = clamp(u - 0.5 / state.zoom, 0, room);
    state.top = clamp(v - 0.5 / state.zoom, 0, room);
    draw();
    address();
  }

  const middle = () => [state.left + 0.5 / state.zoom, state.top + 0.5 / state.zoom];
  const ofSpot = () => [(state.x + 0.5) / width, (state.y + 0.5) / height];
  function reveal() {
    const [u, v] = ofSpot();
    const inside = (w, start) => w >= start && w <= start + 1 / state.zoom;
    if (!inside(u, state.left) || !inside(v, state.top)) look(state.zoom, u, v);
  }
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
      const [dx, dy] = arrows[event.key].map((d) => d * side * (event.shiftKey ? 10 : 1));
      show(state.x + (state.shown ? dx : 0), state.y + (state.shown ? dy : 0));
      reveal();
    } else if (event.key === "Enter" || event.key === " ") {
      pin(!state.pinned);
    } else if (event.key === "Escape") {
      pin(false);
    } else if (keys[event.key]) {
      actions[keys[event.key]]();
    } else if (large.keys[event.key]) {
      large.keys[event.key]();
    } else {
      return;
    }
    event.preventDefault();
  }

  let drag = null;
  function under(event) {
    const box = event.currentTarget.getBoundingClientRect();
    const [w, h] = [width / box.width / state.zoom, height / box.height / state.zoom];
    const x = state.left * width + (event.clientX - box.left) * w;
    const y = state.top * height + (event.clientY - box.top) * h;
    return pick(x, y, w, h);
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
    const before = `${state.x}, ${state.y}`;
    show(...under(event));
    pin(!(state.pinned && before === `${state.x}, ${state.y}`));
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

  // A link such as #12,34;zoom=4;at=0.5,0.25;view=flicker points to a spot, and shows it so.
  let later = 0;
  function address() {
    clearTimeout(later);
    later = setTimeout(() => {
      const parts = [state.shown && state.pinned ? `${state.x},${state.y}` : "", ...large.words];
      const at = middle().map((share) => Number(share.toFixed(4)));
      if (state.zoom > 1) parts.push(`zoom=${state.zoom}`, `at=${at}`);
      const hash = parts.join(";");
      document.getElementById("link").href = `#${hash}`;
      if (location.hash.slice(1) !== hash) history.replaceState(null, "", hash ? `#${hash}` : location.pathname);
    }, 200);
  }
  function fromAddress() {
    const found = /^#(?:(\d+),(\d+))?((?:;[a-z]+=[^;]*)*)$/.exec(location.hash);
    if (!found) return;
    const words = Object.fromEntries(found[3].split(";").slice(1).map((part) => part.split("=")));
    large.restore(words);
    const at = (words.at || "").split(",").map(Number);
    const isPlaced = at.length === 2 && at.every(isFinite);
    if (Number(words.zoom) >= 1) look(Number(words.zoom), ...(isPlaced ? at : middle()));
    if (found[1] === undefined) return;
    show(Number(found[1]), Number(found[2]));
    pin(true);
    if (!isPlaced) reveal();
  }
  addEventListener("hashchange", fromAddress);
  for (const link of document.querySelectorAll("a[href^='#']")) {
    link.addEventListener("click", () => setTimeout(fromAddress)); // also if the address stays
  }
  fromAddress();
  root.dataset.ready = "yes";
})().catch((error) => {
  document.querySelector(".hint").textContent = `The values cannot be shown in this browser: ${error.message}`;
});
