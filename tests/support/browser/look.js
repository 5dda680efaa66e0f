// Opens pages in the Chromium that is installed and tells what a person would meet there: one JSON document per line in,
// one out. Asked: {url, width, scheme, wait, axe, shot}; `wait` is a text that must appear.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import puppeteer from "puppeteer-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core"), "utf8");
const browser = await puppeteer.launch({
  executablePath: process.argv[2],
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});

async function appears(page, text) {
  try {
    await page.waitForFunction((words) => document.body.innerText.includes(words), { timeout: 60_000 }, text);
  } catch (error) {
    const shown = await page.evaluate(() => document.body.innerText);
    throw new Error(`${text} never appeared in: ${shown.slice(0, 2000)}`);
  }
}

async function look({ url, width = 1280, scheme = "light", wait = null, axe: check = false, shot = null }) {
  const page = await browser.newPage();
  const asked = [];
  const errors = [];
  page.on("request", (request) => asked.push(request.url()));
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  const started = Date.now();
  await page.goto(url, { waitUntil: "load", timeout: 60_000 });
  const seconds = (Date.now() - started) / 1000;
  if (wait) await appears(page, wait);
  const violations = [];
  if (check) {
    await page.evaluate(axe);
    const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
    for (const { id, impact, nodes } of found.violations)
      violations.push({ id, impact, nodes: nodes.slice(0, 3).map((node) => node.html.slice(0, 200)) });
  }
  const seen = await page.evaluate(() => ({
    text: document.body.innerText,
    title: document.title,
    wide: document.documentElement.scrollWidth,
  }));
  if (shot) await page.screenshot({ path: shot, fullPage: true });
  await page.close();
  return { ...seen, seconds, asked, errors, violations };
}

for await (const line of createInterface({ input: process.stdin })) {
  const answer = await look(JSON.parse(line)).catch((error) => ({ failed: String(error) }));
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
