// The page in a headless Chromium: node check.mjs URL POINTS.csv PICTURE.png
// Presses the button, and leaves the points that it drew and what is to be seen.

import { existsSync, writeFileSync } from "node:fs";
import puppeteer from "puppeteer-core";

const [url, points, picture] = process.argv.slice(2);
const places = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const executablePath = places.find((place) => place && existsSync(place));
if (!executablePath) throw new Error("No Chromium was found: install Debian's chromium, or name one in CHROMIUM.");

const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage();
  await page.setViewport({ width: 700, height: 860 });
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));

  await page.goto(url);
  const says = async (words, timeout) => {
    const settled = (w) => new RegExp(`${w}|Failed`).test(document.getElementById("status").textContent);
    await page.waitForFunction(settled, { timeout }, words);
    const text = await page.$eval("#status", (status) => status.textContent);
    if (!new RegExp(words).test(text)) throw new Error(text);
    return text;
  };
  await says("Ready", 60_000);
  await page.click("#draw");
  const text = await says("points in", 300_000);

  const drawn = await page.$eval("#canvas", (canvas) => canvas.points);
  const painted = await page.$eval("#canvas", (canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let pixels = 0;
    for (let i = 0; i < data.length; i += 4) pixels += data[i] > 200 && data[i + 1] < 100 && data[i + 3] > 0;
    return pixels;
  });
  if (drawn.length !== 4000 || !drawn.every(Number.isFinite)) throw new Error(`${drawn.length / 2} points were drawn`);
  if (painted < 1000) throw new Error(`only ${painted} pixels were painted`);
  if (complaints.length) throw new Error(complaints.join("\n"));
  const lines = Array.from({ length: 2000 }, (_, i) => `${drawn[2 * i]},${drawn[2 * i + 1]}`);
  writeFileSync(points, ["x,y", ...lines].join("\n") + "\n");
  await page.screenshot({ path: picture });
  console.log(`${await browser.version()}: ${text} ${painted.toLocaleString("en")} pixels painted.`);
} finally {
  await browser.close();
}
