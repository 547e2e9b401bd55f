// The experts' weights over the noise level, stacked, with a line at the level of the slider.

"use strict";

const EXPERTS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#777777"];

class Weights {
  constructor(canvas, legend, experts) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.noise = experts.noise.map(Math.log10);
    this.weights = experts.weights;
    legend.append(`from ${experts.noise[0].toPrecision(2)} (left) to ${experts.noise.at(-1).toPrecision(2)} (right)`);
    experts.weights[0].forEach((_, k) => {
      const sign = document.createElement("span");
      sign.style.background = EXPERTS[k % EXPERTS.length];
      legend.append(sign, experts.names ? experts.names[k] : `expert ${k + 1}`);
    });
  }

  place(noise) {
    const first = this.noise[0], last = this.noise.at(-1);
    return Math.min(1, Math.max(0, (noise - first) / (last - first)));
  }

  draw(level, dark) {
    const { canvas, context } = this;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    const below = this.noise.map(() => 0);
    for (let k = 0; k < this.weights[0].length; k++) {
      context.fillStyle = EXPERTS[k % EXPERTS.length];
      context.globalAlpha = 0.75;
      context.beginPath();
      this.noise.forEach((noise, i) => context.lineTo(this.place(noise) * canvas.width, (1 - below[i]) * canvas.height));
      for (let i = this.noise.length - 1; i >= 0; i--) {
        below[i] += this.weights[i][k];
        context.lineTo(this.place(this.noise[i]) * canvas.width, (1 - below[i]) * canvas.height);
      }
      context.fill();
    }
    context.globalAlpha = 1;
    context.fillStyle = dark ? "#ffffff" : "#000000";
    const x = this.place(level === null ? Infinity : Math.log10(Math.max(level, 1e-12))) * canvas.width;
    context.fillRect(Math.min(x, canvas.width - 2 * ratio), 0, 2 * ratio, canvas.height);
  }
}
