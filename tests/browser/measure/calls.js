// How long a visitor waits: calls in a real browser with a made-up microphone, one after the other, through the house as it
// ships, to its telephone, which rings for 20 ms and answers. Each visitor is new: nothing of the widget is in its cache.
// `npm run measure` makes 50; `-- 10` makes 10.

import assert from "node:assert/strict";
import { start } from "./house.js";

const calls = Number(process.argv[2] ?? 50);
assert.ok(calls > 0, "how many calls must be a number");

/** Notes in the page when the button is pressed and when the widget says that the call stands. */
function watch() {
  const all = /** @type {any} */ (window);
  addEventListener("click", (event) => void (all.tapped ??= event.timeStamp), { capture: true });
  const look = () => {
    if (document.querySelector('[role="status"]')?.textContent?.includes("Connected")) all.connected ??= performance.now();
  };
  new MutationObserver(look).observe(document, { subtree: true, childList: true, characterData: true });
}

/** @param {number[]} times */
function spread(times) {
  const sorted = times.toSorted((a, b) => a - b);
  const within = (/** @type {number} */ share) => sorted[Math.ceil(share * sorted.length) - 1].toFixed(0);
  return `p50 ${within(0.5)} ms, p99 ${within(0.99)} ms, longest ${within(1)} ms`;
}

const stop = await start();
try {
  const { house, launch, widgetAddress } = await import("../e2e/house.js");
  const browser = await launch();
  /** @type {{set_up: number, asked: number, answered: number}[]} */
  const measured = [];
  for (let number = 0; number < calls; number += 1) {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.addInitScript(watch);
    await page.goto(widgetAddress());
    const button = (/** @type {string} */ name) => page.getByRole("button", { name, exact: true, disabled: false });
    await button("Call").click();
    await page.waitForFunction(() => /** @type {any} */ (window).connected);
    measured.push(await page.evaluate(() => {
      const { tapped, connected } = /** @type {any} */ (window);
      const requests = /** @type {PerformanceResourceTiming[]} */ (performance.getEntriesByType("resource"));
      const post = requests.find(({ name }) => new URL(name).pathname === "/v1/calls");
      if (!post) throw new Error("no offer was sent");
      return { set_up: connected - tapped, asked: post.startTime - tapped, answered: post.responseEnd - post.startTime };
    }));
    await button("Hang up").click();
    await page.getByRole("status").getByText("Call ended", { exact: true }).waitFor();
    await context.close();
  }
  console.log(`${calls} calls in ${browser.browserType().name()} ${browser.version()}, at ${house.origin}`);
  await browser.close();
  console.log(`  tap to connected        ${spread(measured.map((it) => it.set_up))}`);
  console.log(`  tap to the offer sent   ${spread(measured.map((it) => it.asked))}`);
  console.log(`  the offer's answer      ${spread(measured.map((it) => it.answered))}`);
} finally {
  await stop();
}
