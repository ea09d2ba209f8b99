// The inbox page: what arrives appears as it arrives, and so does that an integration was paused.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { AxeBuilder } from "@axe-core/playwright";
import { house, launch, manage, open, until } from "./house.js";

/** @type {import("playwright-core").Browser} */
let browser;
before(async () => void (browser = await launch()));
after(() => browser.close());

const app = `/api/v1/apps/${house.demo.appId}`;

/** An integration whose deliveries all fail at once: it is to sign them, and has no key to sign with. */
async function broken() {
  const draft = { name: "Stock room", url: house.demo.inboxUrl, events: ["widget_loaded"], signing: true };
  const { id } = await manage("POST", `${app}/integrations`, draft);
  return `${app}/integrations/${id}`;
}

test("an integration that is paused is told of at once, with what to do", async () => {
  const { page: tab, context, complaints } = await open(browser);
  await tab.goto(house.demo.inboxUrl);
  const notice = tab.getByRole("alert").getByRole("article");
  await tab.getByText("Live", { exact: true }).waitFor();
  assert.equal(await notice.count(), 0);

  const path = await broken();
  const answer = await fetch(new URL("/v1/sessions", house.origin), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ appId: house.demo.appId, widgetKey: house.demo.widgetKey }),
  });
  const { sessionToken } = (await answer.json()).data;
  for (let number = 0; number < 20; number += 1) {
    const event = { id: `evt_01jd3v9zk1${String(Date.now() * 100 + number).padStart(16, "0")}`, name: "widget_loaded" };
    const sent = await fetch(new URL("/v1/events", house.origin), {
      method: "POST",
      headers: { authorization: `Bearer ${sessionToken}`, "content-type": "application/json" },
      body: JSON.stringify({ ...event, data: { isPreview: false }, timestamp: new Date().toISOString() }),
    });
    assert.equal(sent.status, 202);
  }
  await notice.getByRole("heading", { name: "Integration “Stock room” was paused" }).waitFor();
  assert.match(await notice.innerText(), /20 deliveries in a row failed\./);
  const link = notice.getByRole("link", { name: "Activate it in the console" });
  assert.equal(await link.getAttribute("href"), `${house.consoleOrigin}/apps/${house.demo.appId}`);
  await until(() => tab.getByRole("listitem").count(), (count) => count >= 20);
  const { violations } = await new AxeBuilder({ page: tab }).analyze();
  assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), []);
  if (process.env.C2C_PICTURES) await tab.screenshot({ path: `${process.env.C2C_PICTURES}/inbox-notice.png` });

  // Whoever opens the page later sees it too, and programs beside what was received.
  const listed = await (await fetch(house.demo.inboxApi)).json();
  assert.equal(listed.notices.at(-1).name, "Stock room");
  assert.ok(Array.isArray(listed.data));
  await tab.reload();
  await notice.waitFor();
  await tab.getByRole("button", { name: "Clear" }).click();
  await notice.waitFor({ state: "detached" });
  await manage("DELETE", path);
  assert.deepEqual(complaints, []);
  await context.close();
});
