// An explorer in a headless Chromium: node explorer.mjs FOLDER_OF_THE_PAGE PREFIX_OF_PICTURES
// Moves the slider and sees the points move, plays and sees the time run, and measures the frames a second.

import { mkdirSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { launch, looks, open, refuseOverflow } from "./browser.mjs";

const [folder, prefix] = process.argv.slice(2);
mkdirSync(dirname(prefix), { recursive: true });
const settle = (page) => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
const moveTo = async (page, share) => {
  await page.$eval("#time", (slider, at) => {
    slider.value = at * slider.max;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
  }, share);
  await settle(page);
};
const look = (page) => page.evaluate(() => panels.map((panel) => {
  const { data } = panel.context.getImageData(0, 0, panel.canvas.width, panel.canvas.height);
  let painted = 0;
  for (let i = 3; i < data.length; i += 4) painted += data[i] > 150;
  return { name: panel.process.name, points: Array.from(panel.points), painted, image: panel.canvas.toDataURL() };
}));
// Chooses a guidance weight by its place in the list; gives the panels and the words below the slider.
const guide = async (page, place) => {
  await page.$eval("#guidance", (slider, at) => {
    slider.value = at;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
  }, place);
  await settle(page);
  return { panels: await look(page), words: await page.$eval("#guidance-words", (words) => words.textContent) };
};
const must = (holds, words) => { if (!holds) throw new Error(words); };

const browser = await launch();
try {
  let rate = 0, milliseconds = Infinity;
  for (const size of looks) {
    const { page, complaints } = await open(browser, pathToFileURL(resolve(folder, "index.html")).href, size);
    await settle(page);
    await refuseOverflow(page);
    const noise = await look(page);
    await moveTo(page, 0.6);
    const halfway = await look(page);
    await moveTo(page, 0.35); // where there is so much noise that the arrows are long
    const bare = await look(page);
    if (await page.$("#arrows:not(:checked)")) await page.click("#arrows");
    await settle(page);
    const arrows = await look(page);
    await page.screenshot({ path: `${prefix}-${size.name}.png`, fullPage: true });
    noise.forEach((panel, k) => {
      must(panel.painted > Math.min(500, panel.points.length / 8), `${panel.name}: only ${panel.painted} pixels are painted`);
      must(panel.points.every(Number.isFinite), `${panel.name}: a point is no number`);
      const moved = panel.points.filter((value, i) => Math.abs(value - halfway[k].points[i]) > 1e-3).length;
      must(moved > panel.points.length / 2, `${panel.name}: the slider moves only ${moved} of ${panel.points.length} numbers`);
      must(panel.image !== halfway[k].image, `${panel.name}: the picture does not change with the slider`);
    });
    must(arrows.some((panel, k) => panel.image !== bare[k].image), "the arrows are not drawn");
    const start = noise.filter((panel) => panel.name !== "forward");
    must(start.every((panel) => panel.points.every((value, i) => value === start[0].points[i])), "the noise differs");
    const weights = await page.evaluate(() => DUALDIFF.given && DUALDIFF.given.weights);
    must(Boolean(weights) === (await page.$eval("#guidance-choice", (label) => label.offsetHeight > 0)), "the guidance slider is shown wrongly");
    if (weights) {
      await moveTo(page, 1);
      const own = await guide(page, weights.indexOf(1));
      must(own.words.includes("conditional distribution"), `the caption of W = 1 is: ${own.words}`);
      for (const [place, weight] of weights.entries()) {
        const other = await guide(page, place);
        must(other.words.includes(`W = ${weight}`), `the caption of W = ${weight} is: ${other.words}`);
        await page.screenshot({ path: `${prefix}-${size.name}-guidance-${weight}.png`, fullPage: true });
        for (const [k, panel] of other.panels.entries()) {
          const moved = panel.image !== own.panels[k].image;
          must(moved === (weight !== 1 && panel.name !== "forward"), `${panel.name} at W = ${weight}: the points ${moved ? "" : "do not "}change`);
        }
      }
      await guide(page, weights.indexOf(1));
    }

    await moveTo(page, 0);
    await page.click("#play");
    const frames = await page.evaluate(() => new Promise((done) => {
      const times = [];
      const tick = (now) => { times.push(now); if (now - times[0] < 2000) requestAnimationFrame(tick); else done(times.length - 1); };
      requestAnimationFrame(tick);
    }));
    const time = await page.evaluate(() => state.time);
    must(time > 0, "the film does not run");
    await page.click("#play");
    await settle(page);
    const paused = await page.evaluate(() => state.time);
    await settle(page);
    must(paused === (await page.evaluate(() => state.time)), "the film runs although it is paused");
    rate = Math.max(rate, frames / 2);
    const drawing = await page.evaluate(() => {
      const before = performance.now();
      for (let k = 0; k < 50; k++) { state.time = (k / 50) * last; draw(); }
      return (performance.now() - before) / 50;
    });
    milliseconds = Math.min(milliseconds, drawing);
    if (complaints.length) throw new Error(complaints.join("\n"));
    await moveTo(page, 1);
    await page.screenshot({ path: `${prefix}-${size.name}-end.png`, fullPage: true });
    await page.close();
  }
  console.log(`${looks.length} looks at ${folder} begin with ${prefix}; up to ${rate.toFixed(0)} frames a second, a picture is drawn in ${milliseconds.toFixed(1)} ms.`);
} finally {
  await browser.close();
}
