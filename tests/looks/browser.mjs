// A headless Chromium, and what every look at a page shares.

import { existsSync } from "node:fs";
import puppeteer from "puppeteer-core";

const places = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

export const looks = [
  { name: "wide-light", scheme: "light", width: 1280, height: 900 },
  { name: "wide-dark", scheme: "dark", width: 1280, height: 900 },
  { name: "phone-light", scheme: "light", width: 390, height: 844 },
  { name: "phone-dark", scheme: "dark", width: 390, height: 844 },
];

export async function launch() {
  const executablePath = places.find((place) => place && existsSync(place));
  if (!executablePath) throw new Error("No Chromium was found: install Debian's chromium, or name one in CHROMIUM.");
  return puppeteer.launch({ executablePath, args: ["--no-sandbox", "--allow-file-access-from-files"] });
}

// Opens a page; everything that the page complains about, and every request beyond its own files, is collected.
export async function open(browser, url, look) {
  const page = await browser.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("request", (request) => {
    if (!/^(file|data|blob):/.test(request.url())) complaints.push(`the page asks for ${request.url()}`);
  });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: look.scheme }]);
  await page.setViewport({ width: look.width, height: look.height, deviceScaleFactor: 1 });
  await page.goto(url);
  return { page, complaints };
}

export async function refuseOverflow(page) {
  const [content, shown] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  if (content > shown) throw new Error(`the page is ${content} pixels wide, but ${shown} are shown`);
}
