// Chromium calls through the media server: reads what to do from its input, one JSON array `[action, …arguments]` a line,
// and answers each with a line of JSON. Its microphone plays a file.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(new URL("../../tests/browser/package.json", import.meta.url));
const { chromium } = require("playwright-core");

const [address, sound] = process.argv.slice(2);
const server = await chromium.launchServer({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    `--use-file-for-fake-audio-capture=${sound}`,
    "--autoplay-policy=no-user-gesture-required",
  ],
});
const browser = await chromium.connect(server.wsEndpoint());
const page = await browser.newPage();
await page.goto(address);
await page.evaluate(prepare);

for await (const line of createInterface({ input: process.stdin })) {
  const [action, ...given] = JSON.parse(line);
  if (action === "kill") {
    await server.kill();
    console.log("null");
    process.exit();
  }
  const done = await page.evaluate(([name, values]) => globalThis.call[name](...values), [action, given]);
  console.log(JSON.stringify(done ?? null));
}
await server.close();

/** Runs in the page: what can be done there. */
function prepare() {
  const until = async (what, condition) => {
    for (const began = performance.now(); ; await new Promise((wake) => setTimeout(wake, 10))) {
      const value = await condition();
      if (value) return value;
      if (performance.now() - began > 20_000) throw new Error(`no ${what}`);
    }
  };
  const messages = [];
  let pc, channel, track, sender, analyser, ask;

  /** The share of a tone in all the sound there is (Goertzel's algorithm). */
  const share = (pitch) => {
    const samples = new Float32Array(analyser.fftSize);
    analyser.getFloatTimeDomainData(samples);
    const turn = 2 * Math.cos((2 * Math.PI * pitch) / analyser.context.sampleRate);
    let [before, last, energy] = [0, 0, 0];
    for (const sample of samples) {
      [before, last] = [last, sample + turn * last - before];
      energy += sample * sample;
    }
    const power = before * before + last * last - turn * before * last;
    return energy < 1e-3 ? 0 : (2 * power) / (energy * samples.length);
  };
  const negotiate = async (method, path) => {
    await pc.setLocalDescription();
    const answer = await ask(method, path, pc.localDescription.sdp);
    const sdp = await answer.text();
    if (!answer.ok) throw new Error(`${answer.status} ${sdp}`);
    return { sdp, location: answer.headers.get("location") };
  };

  globalThis.call = {
    async begin({ media, token, tcp }) {
      ask = (method, path, body) =>
        fetch(`${media}${path}`, {
          method,
          headers: { authorization: `Bearer ${token}`, "content-type": "application/sdp" },
          body,
        });
      // As it is: a tone would be taken for noise, and for an echo of itself.
      const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
      const stream = await navigator.mediaDevices.getUserMedia({ audio });
      [track] = stream.getAudioTracks();
      pc = new RTCPeerConnection();
      sender = pc.addTrack(track, stream);
      channel = pc.createDataChannel("control");
      channel.onmessage = ({ data }) => messages.push(JSON.parse(data));
      pc.ontrack = ({ streams }) => {
        // Chromium decodes only what an element plays.
        const element = new Audio();
        element.srcObject = streams[0];
        element.muted = true;
        void element.play();
        const context = new AudioContext();
        analyser = context.createAnalyser();
        analyser.fftSize = 8_192;
        context.createMediaStreamSource(streams[0]).connect(analyser);
      };
      const { sdp, location } = await negotiate("POST", "/v1/calls");
      await pc.setRemoteDescription({ type: "answer", sdp: tcp ? sdp.replace(/a=candidate:\S+ \d udp [^\n]*\n/gi, "") : sdp });
      await until("connection", () => pc.connectionState === "connected");
      return location;
    },
    told: (type) => until(type, () => messages.find((message) => message.type === type)),
    hears: (pitch) => until(`tone of ${pitch} Hz`, () => analyser && share(pitch) > 0.7),
    say: (message) => channel.send(JSON.stringify(message)),
    press: (digit, millis) => sender.dtmf.insertDTMF(digit, millis),
    mute: (on) => {
      track.enabled = !on;
    },
    remove: async (path) => (await ask("DELETE", path)).status,
    async protocol() {
      const entries = [...(await pc.getStats()).values()];
      const pair = entries.find((entry) => entry.type === "candidate-pair" && entry.nominated && entry.state === "succeeded");
      return entries.find((entry) => entry.id === pair.localCandidateId).protocol;
    },
  };
}
