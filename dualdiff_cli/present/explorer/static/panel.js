// One panel: a canvas with the points of one process, the arrows of the field and the log-density behind them.

"use strict";

const HUES = 12;
const REACH = 1 / 3; // of the way to E[x | x_t]

class Panel {
  constructor(process, data, shared) {
    this.process = process;
    this.shared = shared;
    this.frames = data.frames;
    this.every = process.states.map(positionsOf); // one for each guidance weight, or only one
    this.positions = this.every[0];
    this.points = new Float32Array(2 * process.points);
    this.centres = data.modes && data.modes.centres.map((centre) => centre.map((value) => value / data.limit));
    this.truth = data.modes && data.modes.shares;
    this.order = this.byHue();
    this.element = document.createElement("section");
    this.element.className = "panel";
    const head = document.createElement("h3");
    head.textContent = process.label;
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `points of: ${process.label}`);
    this.words = document.createElement("p");
    this.element.append(head, this.canvas, this.words);
    this.context = this.canvas.getContext("2d");
  }

  // The numbers of the points by the direction of their noise, so that each colour is set once a picture.
  byHue() {
    const groups = Array.from({ length: HUES }, () => []);
    for (let k = 0; k < this.process.points; k++) {
      const angle = Math.atan2(this.positions[2 * k + 1], this.positions[2 * k]);
      groups[Math.min(HUES - 1, Math.floor(((angle + Math.PI) / (2 * Math.PI)) * HUES))].push(k);
    }
    return groups;
  }

  // Shows the points of a guidance weight, by the place of the weight in the list.
  choose(place) {
    this.positions = this.every[Math.min(place, this.every.length - 1)];
  }

  fit() {
    const side = Math.round(this.canvas.clientWidth * (window.devicePixelRatio || 1));
    if (this.canvas.width !== side) this.canvas.width = this.canvas.height = side;
  }

  draw(time, { arrows, density, dark }) {
    const { context, canvas, points } = this;
    const half = canvas.width / 2;
    between(this.positions, points.length, this.frames, time, points);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (density) {
      context.imageSmoothingEnabled = true;
      context.drawImage(density, 0, 0, canvas.width, canvas.height);
    }
    if (arrows && !this.process.still) this.drawArrows(time, half, dark);
    const dot = Math.max(1.5, canvas.width / 170);
    for (let hue = 0; hue < HUES; hue++) {
      context.fillStyle = `hsl(${(hue * 360) / HUES} ${dark ? "75% 66%" : "75% 40%"} / 0.75)`;
      for (const k of this.order[hue]) {
        context.fillRect(half + points[2 * k] * half - dot / 2, half - points[2 * k + 1] * half - dot / 2, dot, dot);
      }
    }
    this.say();
  }

  drawArrows(time, half, dark) {
    const { context } = this;
    const { side, answers } = this.shared.field;
    const field = between(answers, 2 * side * side, this.frames, time, this.shared.answer);
    const head = half / 45;
    context.strokeStyle = dark ? "rgb(230 232 234 / 0.75)" : "rgb(31 35 40 / 0.65)";
    context.lineWidth = Math.max(1, half / 220);
    context.beginPath();
    for (let k = 0; k < side * side; k++) {
      const x = (((k % side) + 0.5) / side) * 2 - 1, y = ((Math.floor(k / side) + 0.5) / side) * 2 - 1;
      const dx = REACH * (field[2 * k] - x) * half, dy = -REACH * (field[2 * k + 1] - y) * half;
      const length = Math.hypot(dx, dy);
      if (length < 1) continue;
      const x0 = half + x * half, y0 = half - y * half, x1 = x0 + dx, y1 = y0 + dy;
      const size = Math.min(head, length / 2), ux = dx / length, uy = dy / length;
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
      context.moveTo(x1 - size * (ux + 0.6 * uy), y1 - size * (uy - 0.6 * ux));
      context.lineTo(x1, y1);
      context.lineTo(x1 - size * (ux - 0.6 * uy), y1 - size * (uy + 0.6 * ux));
    }
    context.stroke();
  }

  say() {
    const still = this.process.still ? `σ/α = ${this.process.still.toPrecision(2)} all the time` : "";
    if (!this.centres) { this.words.textContent = still; return; }
    const percent = (share) => `${Math.round(100 * share)} %`;
    const shares = sharesOf(this.points, this.centres);
    if (this.truth.length <= 4) {
      const counted = `shares ${shares.map(percent).join(" : ")} · true ${this.truth.map(percent).join(" : ")}`;
      this.words.textContent = [counted, still].filter(Boolean).join(" · ");
    } else {
      const off = shares.reduce((sum, share, k) => sum + Math.abs(share - this.truth[k]), 0) / 2;
      this.words.textContent = [`${percent(off)} of the points are in a wrong mode`, still].filter(Boolean).join(" · ");
    }
  }
}
