"use strict";
// One picture, large: a wipe between both images, a flicker, or one of the pictures alone.
function largePicture(changed) {
  const box = document.querySelector(".stage");
  const sides = [...box.querySelectorAll(".side")];
  const [slider, rate, swap] = ["wipe", "rate", "swap"].map((id) => document.getElementById(id));
  const buttons = [...document.querySelectorAll("[data-mode]")];
  const divider = box.querySelector(".divider");
  const [left, right] = box.querySelectorAll(".which");
  const state = { mode: "wipe", wipe: 50, second: false, zoom: 1 };
  for (const side of sides) {
    // The pictures below, whose bytes the browser keeps once.
    for (const image of document.querySelectorAll(`#picture-${side.dataset.of} .frame img`)) {
      const copy = image.cloneNode();
      copy.alt = "";
      side.append(copy);
    }
  }
  const [width, height] = box.dataset.size.split(" ").map(Number);
  const ratio = Math.min(Math.max(width / height, 1 / 4), 8);
  box.style.aspectRatio = ratio;
  box.style.maxWidth = `max(14rem, ${72 * ratio}vh)`;

  let timer = 0;
  function tick() {
    clearInterval(timer);
    const often = Number(rate.value);
    if (state.mode === "flicker" && often > 0) timer = setInterval(turn, 1000 / often);
  }
  function turn() {
    state.second = !state.second;
    draw();
  }

  function draw() {
    const { mode, wipe, second } = state;
    const alone = mode === "flicker" ? (second ? "test" : "reference") : mode;
    for (const side of sides) {
      const name = side.dataset.of;
      side.hidden = mode === "wipe" ? name === "difference" : name !== alone;
      side.style.clipPath = mode === "wipe" && name === "test" ? `inset(0 0 0 ${wipe}%)` : "none";
    }
    box.dataset.mode = mode;
    divider.style.left = `${wipe}%`;
    slider.value = wipe;
    slider.setAttribute("aria-valuetext", `reference on the left ${Math.round(wipe)}%`);
    left.textContent = mode === "wipe" ? "reference" : alone;
    right.textContent = "test";
    left.hidden = mode === "wipe" && wipe < 15;
    right.hidden = mode !== "wipe" || wipe > 85;
    for (const button of buttons) button.setAttribute("aria-pressed", button.dataset.mode === mode);
    slider.parentElement.hidden = mode !== "wipe";
    rate.parentElement.hidden = swap.hidden = mode !== "flicker";
  }

  // The finer picture is shown once its pixels are not averaged away, as a thin line would be.
  function fit() {
    const shown = box.clientWidth * state.zoom * devicePixelRatio;
    for (const side of sides) {
      const [coarse, fine] = side.children;
      const least = side.dataset.of === "difference" ? 0.75 : 0;
      const finer = fine && fine.naturalWidth && shown > coarse.naturalWidth && shown >= least * fine.naturalWidth;
      side.classList.toggle("fine", Boolean(finer));
      side.classList.toggle("pixels", shown > (finer ? fine : coarse).naturalWidth);
    }
  }

  function set(mode) {
    if (mode === "flicker" && state.mode === "flicker") state.second = !state.second;
    state.mode = mode;
    tick();
    draw();
    changed();
  }
  function wipe(to) {
    state.wipe = Math.min(Math.max(to, 0), 100);
    if (state.mode !== "wipe") set("wipe");
    draw();
    changed();
  }

  for (const button of buttons) button.addEventListener("click", () => set(button.dataset.mode));
  slider.addEventListener("input", () => wipe(Number(slider.value)));
  swap.addEventListener("click", turn);
  rate.addEventListener("change", tick);
  divider.addEventListener("pointerdown", (event) => {
    divider.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  divider.addEventListener("pointermove", (event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    const place = box.getBoundingClientRect();
    wipe(((event.clientX - place.left) / place.width) * 100);
  });
  for (const type of ["pointerdown", "pointermove", "click"]) {
    divider.addEventListener(type, (event) => event.stopPropagation());
  }
  // Who asked for less motion turns the pictures by hand, unless a rate is chosen.
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  function calmed() {
    if (calm.matches) rate.value = "0";
    tick();
  }
  calm.addEventListener("change", calmed);
  calmed();
  addEventListener("load", fit);
  addEventListener("resize", fit);
  draw();
  return {
    fit(zoom) {
      state.zoom = zoom;
      fit();
    },
    keys: {
      w: () => set("wipe"), f: () => set("flicker"), d: () => set("difference"),
      r: () => set("reference"), t: () => set("test"),
      "[": () => wipe(state.wipe - 5), "]": () => wipe(state.wipe + 5),
    },
    // What a link says of this picture, and the way back.
    get words() {
      const said = state.mode === "wipe" ? [] : [`view=${state.mode}`];
      return state.wipe === 50 ? said : [...said, `wipe=${Number(state.wipe.toFixed(1))}`];
    },
    restore(words) {
      if (words.wipe) wipe(Number(words.wipe) || 0);
      if (buttons.some((button) => button.dataset.mode === words.view)) set(words.view);
    },
  };
}
