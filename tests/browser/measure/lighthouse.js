// What the loader costs the page that embeds it, as Lighthouse sees it: a bare page of another site than the widget's is
// loaded with the loader and without it, in turn, by a new browser each time, as a slow telephone and as a desktop. The
// telephone's line is slowed down in earnest (`devtools`). Lighthouse's own way reckons instead what a slow line would do, and
// takes for needed whatever came before a paint; here, where all comes at once, an empty script would count as 300 ms, too.
// `npm run lighthouse` (in tests/browser) visits it 9 times each way; `-- 5` does so 5 times.
//
// The rule: the loader costs nothing that can be measured when, of every metric, the medians with and without it are no
// further apart than the visits without it are among themselves (the most less the least, one at either end left out), or
// than one step of the metric where those are all the same. A greater difference is named, and the exit status is 1.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { launch } from "chrome-launcher";
import lighthouse, { desktopConfig } from "lighthouse";
import { start } from "./house.js";

const visits = Number(process.argv[2] ?? 9);
assert.ok(visits >= 5, "how many visits must be a number, 5 at least");
/** The loader waits 1.5 s after the page has loaded, and for an idle moment: what it draws then is measured too. */
const STAYS_MS = 4_000;

/** @typedef {{name: string, unit: string, step: number, digits: number, of: (result: any) => number}} Metric
 * `step`: the least that the metric tells apart */
const audit = (/** @type {string} */ id) => (/** @type {any} */ { audits }) => audits[id].numericValue;
/** @type {Metric[]} */
const METRICS = [
  { name: "FCP", unit: "ms", step: 10, digits: 0, of: audit("first-contentful-paint") },
  { name: "LCP", unit: "ms", step: 10, digits: 0, of: audit("largest-contentful-paint") },
  { name: "TBT", unit: "ms", step: 10, digits: 0, of: audit("total-blocking-time") },
  { name: "CLS", unit: "", step: 0.001, digits: 3, of: audit("cumulative-layout-shift") },
  { name: "score", unit: "", step: 1, digits: 0, of: ({ categories }) => categories.performance.score * 100 },
];

/** A picture of noise, 320 × 240: the largest thing to see, and too lively to be taken for a background. */
function picture() {
  const [width, height, head] = [320, 240, 54];
  const made = Buffer.concat([Buffer.alloc(head), randomBytes(width * height * 3)]);
  made.write("BM");
  made.writeUInt32LE(made.length, 2);
  made.writeUInt32LE(head, 10);
  made.writeUInt32LE(40, 14);
  made.writeInt32LE(width, 18);
  made.writeInt32LE(height, 22);
  made.writeUInt16LE(1, 26);
  made.writeUInt16LE(24, 28);
  return made;
}

const page = (/** @type {string} */ more) => `<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="description" content="A bare page."><link rel="icon" href="data:,">
<title>A site</title><style>body{font:1rem/1.5 system-ui;max-width:40rem;margin:2rem auto;padding:0 1rem}</style></head>
<body><main><h1>A site</h1><img src="/picture" width="320" height="240" alt="Noise">
<p>${"A few words that everybody reads. ".repeat(4)}</p></main>${more}</body></html>`;

/** The page, at `/without` and `/with` the loader. @param {any} house */
async function site({ origin, demo }) {
  const loader = `<script async src="${origin}/embed.js" data-app-id="${demo.appId}" data-key="${demo.widgetKey}"></script>`;
  /** @type {Record<string, [string, string | Buffer]>} */
  const files = { "/without": ["text/html", page("")], "/with": ["text/html", page(loader)], "/picture": ["image/bmp", picture()] };
  const server = createServer(({ url = "" }, answer) => {
    const [type, body] = files[url] ?? ["text/plain", ""];
    answer.writeHead(url in files ? 200 : 404, { "content-type": type }).end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  return server;
}

/**
 * @param {string} address
 * @param {any} config none: a slow telephone
 */
async function visit(address, config) {
  const browser = await launch({
    chromePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    chromeFlags: ["--headless=new", "--no-sandbox"],
  });
  try {
    /** @type {import("lighthouse").Flags} */
    const flags = { port: browser.port, onlyCategories: ["performance"], pauseAfterLoadMs: STAYS_MS, throttlingMethod: "devtools" };
    const result = (await lighthouse(address, flags, config))?.lhr;
    assert.ok(result && !result.runtimeError, `${address}: ${result?.runtimeError?.message}`);
    // The page has four elements in its body, and one more of the loader's script: it also drew.
    const drawn = result.audits["dom-size"].numericValue > 5;
    assert.equal(drawn, address.endsWith("/with"), "the loader's button is there, or not, as it is to be");
    return METRICS.map(({ of }) => of(result));
  } finally {
    browser.kill();
  }
}

/** @param {number[]} values */
function summary(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const [least, most] = [sorted[0], sorted[sorted.length - 1]];
  return { median: sorted[Math.floor(sorted.length / 2)], least, most, spread: sorted[sorted.length - 2] - sorted[1] };
}

/** Whether the loader cost nothing. @param {string} address @param {string} device @param {any} config */
async function compare(address, device, config) {
  /** @type {Record<string, number[][]>} */
  const seen = { without: [], with: [] };
  for (let number = 0; number < visits; number += 1) {
    // In turn, and each first every other time: what else the machine does falls on both.
    const ways = number % 2 ? ["with", "without"] : ["without", "with"];
    for (const way of ways) seen[way].push(await visit(`${address}/${way}`, config));
  }
  console.log(`\n${device}, medians of ${visits} (least to most)`);
  const rows = METRICS.map(({ name, unit, step, digits }, column) => {
    const [without, with_] = ["without", "with"].map((way) => summary(seen[way].map((row) => row[column])));
    const allowed = Math.max(without.spread, step);
    const fine = Math.abs(with_.median - without.median) <= allowed;
    const shown = (/** @type {ReturnType<typeof summary>} */ it) =>
      `${it.median.toFixed(digits)} (${it.least.toFixed(digits)} to ${it.most.toFixed(digits)})`.padEnd(24);
    console.log(`  ${name.padEnd(6)} without ${shown(without)} with ${shown(with_)} ${unit.padEnd(2)} ${fine ? "" : "differs"}`.trimEnd());
    return fine;
  });
  return rows.every((fine) => fine);
}

const stop = await start();
try {
  const { house } = await import("../e2e/house.js");
  const server = await site(house);
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  const address = `http://site.localhost:${port}`;
  const same = [await compare(address, "telephone", undefined), await compare(address, "desktop", desktopConfig)];
  server.close();
  if (!same.every((fine) => fine)) process.exitCode = 1;
} finally {
  await stop();
}
