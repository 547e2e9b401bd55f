// The page: the controls, the time, and what is drawn when.

"use strict";

const SECONDS = 6; // from noise to data
const REST = 1.2; // seconds at the end before the film begins again

const find = (id) => document.getElementById(id);
const darkness = window.matchMedia("(prefers-color-scheme: dark)");
const last = DUALDIFF.frames - 1;
const shared = {
  field: { side: DUALDIFF.field.side, answers: positionsOf(DUALDIFF.field.answers) },
  answer: new Float32Array(2 * DUALDIFF.field.side ** 2),
};
const panels = DUALDIFF.processes.map((process) => new Panel(process, DUALDIFF, shared));
const weights = DUALDIFF.experts && new Weights(find("weights"), find("legend"), DUALDIFF.experts);
const state = { time: 0, playing: false, rest: 0, before: 0, changed: true };
let heat = null;

// The log-density as an image with one pixel a cell.
function heatOf(density, dark) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = density.side;
  const context = canvas.getContext("2d");
  const image = context.createImageData(density.side, density.side);
  const shares = bytesOf(density.shares);
  const [r, g, b] = dark ? [108, 184, 230] : [0, 114, 178];
  for (let row = 0; row < density.side; row++) {
    for (let column = 0; column < density.side; column++) {
      const share = shares[(density.side - 1 - row) * density.side + column]; // the first row of an image is at the top
      image.data.set([r, g, b, 0.45 * share], 4 * (row * density.side + column));
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function levelAt(time) {
  const first = Math.min(Math.floor(time), last), second = Math.min(first + 1, last);
  const a = DUALDIFF.noise[first], b = DUALDIFF.noise[second];
  if (a === null || b === null || a === 0 || b === 0) return time - first < 0.5 ? a : b;
  return Math.exp(Math.log(a) + (time - first) * (Math.log(b) - Math.log(a)));
}

function words(level) {
  if (level === null) return "pure noise";
  return level === 0 ? "no noise" : `σ/α = ${level < 0.1 ? level.toPrecision(2) : level.toFixed(2)}`;
}

// What the guidance weight of the slider does, in a sentence.
function meaningOf(weight, cells) {
  if (weight === 0) return `W = 0 pays no attention to ${cells}: the points are those of all rows.`;
  if (weight === 1) return `W = 1 is the conditional distribution: the points are those of rows with ${cells}.`;
  return `W = ${weight} exaggerates what is typical of ${cells}. The conditional distribution is that of W = 1.`;
}

function guide() {
  const { words: cells, weights: choices } = DUALDIFF.given;
  const place = Number(find("guidance").value);
  for (const panel of panels) panel.choose(place);
  find("weight").textContent = `W = ${choices[place]}`;
  find("guidance").setAttribute("aria-valuetext", `W = ${choices[place]}`);
  find("guidance-words").textContent = meaningOf(choices[place], cells);
  state.changed = true;
}

function draw() {
  const dark = darkness.matches;
  const looks = { arrows: find("arrows").checked, density: find("density").checked ? heat : null, dark };
  for (const panel of panels) panel.draw(state.time, looks);
  const level = levelAt(state.time);
  find("level").textContent = words(level);
  if (weights) weights.draw(level, dark);
}

function step(now) {
  const passed = Math.min(0.1, (now - state.before) / 1000);
  state.before = now;
  if (state.playing) {
    const speed = Number(find("speed").value);
    if (state.time >= last) {
      state.rest += passed;
      if (state.rest > REST) { state.rest = 0; state.time = 0; }
    } else {
      state.time = Math.min(last, state.time + (passed * speed * last) / SECONDS);
    }
    find("time").value = state.time;
    state.changed = true;
  }
  if (state.changed) { state.changed = false; draw(); }
  window.requestAnimationFrame(step);
}

function play(on) {
  state.playing = on;
  find("play").textContent = on ? "Pause" : "Play";
  find("play").setAttribute("aria-pressed", String(on));
}

function redress() {
  heat = DUALDIFF.density && heatOf(DUALDIFF.density, darkness.matches);
  for (const panel of panels) panel.fit();
  state.changed = true;
}

document.title = find("title").textContent = DUALDIFF.title;
find("axes").textContent = `Across: ${DUALDIFF.columns[0]}; up: ${DUALDIFF.columns[1]}.`;
for (const panel of panels) find("panels").append(panel.element);
find("time").max = last;
for (const id of ["guidance-choice", "guidance-words", "guidance-told"]) find(id).hidden = !DUALDIFF.given;
if (DUALDIFF.given) {
  find("guidance").max = DUALDIFF.given.weights.length - 1;
  find("guidance").value = DUALDIFF.given.weights.indexOf(1);
  find("guidance").addEventListener("input", guide);
  guide();
}
find("density-choice").hidden = !DUALDIFF.density;
find("experts").hidden = !weights;
find("controls").addEventListener("submit", (event) => event.preventDefault());
find("time").addEventListener("input", (event) => { play(false); state.time = Number(event.target.value); state.changed = true; });
find("play").addEventListener("click", () => { if (!state.playing && state.time >= last) state.time = 0; play(!state.playing); });
for (const id of ["arrows", "density"]) find(id).addEventListener("change", () => { state.changed = true; });
document.addEventListener("keydown", (event) => {
  if (event.key !== " " || ["BUTTON", "INPUT", "SELECT", "SUMMARY"].includes(event.target.tagName)) return;
  event.preventDefault();
  find("play").click();
});
window.addEventListener("resize", redress);
darkness.addEventListener("change", redress);
redress();
window.requestAnimationFrame(step);
