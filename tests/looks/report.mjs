// A report in a headless Chromium: node report.mjs REPORT.html FOLDER
// Leaves a picture of each look and the printed page in the folder; fails where the page complains or is too wide.

import { mkdirSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { launch, looks, open, refuseOverflow } from "./browser.mjs";

const [file, folder] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
const browser = await launch();
try {
  for (const look of looks) {
    const { page, complaints } = await open(browser, pathToFileURL(resolve(file)).href, look);
    await refuseOverflow(page);
    await page.screenshot({ path: `${folder}/report-${look.name}.png`, fullPage: true });
    if (look === looks[0]) await page.pdf({ path: `${folder}/report.pdf`, format: "A4", printBackground: false });
    const closed = await page.$("details.score:not([open]) > summary");
    if (closed) {
      await closed.click();
      const opened = await page.$eval("details.score[open] .body", (body) => body.offsetHeight);
      if (!opened) throw new Error("a click on a score does not open its explanation");
    }
    if (complaints.length) throw new Error(complaints.join("\n"));
    await page.close();
  }
  console.log(`${looks.length} looks at ${file}, and the printed page, are in ${folder}.`);
} finally {
  await browser.close();
}
