// The house that is measured: one that runs already, which C2C_LOCAL_JSON names, or one made for the occasion, as it ships.
// It must grant one address as many visits a minute as the measurement makes.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** Makes sure that a house runs, and gives what ends it. */
export async function start() {
  return process.env.C2C_LOCAL_JSON ? async () => {} : own();
}

/** A house whose state is in a directory of its own. */
async function own() {
  const directory = await mkdtemp(join(tmpdir(), "click-to-call-"));
  const unlimited = ["CALLS_IP", "CALLS_APP", "SESSION_IP", "WIDGET_IP", "EVENTS_IP"].map((name) => [`C2C_LIMIT_${name}`, "100000"]);
  const house = spawn("cargo", ["run", "--quiet", "--release", "--", "--ephemeral", "--port", "0", "--state", directory], {
    cwd: new URL("../../..", import.meta.url),
    env: { ...process.env, ...Object.fromEntries(unlimited), RUST_LOG: "warn" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ready = async () => {
    for await (const line of createInterface({ input: house.stdout })) if (line.startsWith("ready ")) return true;
    return false;
  };
  assert.ok(await ready(), "the house starts");
  process.env.C2C_LOCAL_JSON = join(directory, "local.json");
  return async () => {
    if (house.exitCode === null && house.kill("SIGINT")) await once(house, "exit");
    await rm(directory, { recursive: true, force: true });
  };
}
