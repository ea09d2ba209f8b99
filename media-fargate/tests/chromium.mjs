// Chromium calls: takes the page's address and the measures to take, prints what it saw as one line of JSON.

import { createRequire } from "node:module";

const require = createRequire(new URL("../../tests/browser/package.json", import.meta.url));
const { chromium } = require("playwright-core");

const [address, options] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
});
try {
  const page = await browser.newPage();
  await page.goto(address);
  console.log(JSON.stringify(await page.evaluate(call, JSON.parse(options))));
} finally {
  await browser.close();
}

/** Runs in the page. @param {{tcp: boolean, restart: boolean, seconds: number}} options */
async function call({ tcp, restart, seconds }) {
  const until = async (condition, what) => {
    for (const began = performance.now(); ; await new Promise((wake) => setTimeout(wake, 5))) {
      const value = await condition();
      if (value) return value;
      if (performance.now() - began > 15_000) throw new Error(`no ${what}`);
    }
  };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  const pc = new RTCPeerConnection();
  const sender = pc.addTrack(stream.getAudioTracks()[0], stream);
  const channel = pc.createDataChannel("control");
  const texts = [];
  channel.onmessage = ({ data }) => texts.push(data);
  const audio = new Audio();
  pc.ontrack = ({ streams }) => {
    audio.srcObject = streams[0];
    void audio.play();
  };

  /** @param {string} method @param {string} path */
  const negotiate = async (method, path) => {
    await pc.setLocalDescription();
    const began = performance.now();
    const answer = await fetch(path, { method, headers: { "content-type": "application/sdp" }, body: pc.localDescription?.sdp });
    let sdp = await answer.text();
    if (!answer.ok) throw new Error(`${answer.status} ${sdp}`);
    const answered = performance.now() - began;
    if (tcp) sdp = sdp.replace(/a=candidate:\S+ \d udp [^\n]*\n/gi, "");
    await pc.setRemoteDescription({ type: "answer", sdp });
    return { answered, sdp, location: answer.headers.get("location") };
  };
  const entries = async (type) => [...(await pc.getStats()).values()].filter((entry) => entry.type === type);
  const inbound = async () => (await entries("inbound-rtp"))[0] ?? { packetsReceived: 0, totalAudioEnergy: 0 };

  const { answered, sdp, location } = await negotiate("POST", "/calls");
  const began = performance.now();
  await until(() => pc.connectionState === "connected", "connection");
  const connected = performance.now() - began;
  await until(() => channel.readyState === "open", "data channel");
  const open = performance.now() - began;
  await until(() => texts.includes("early"), "message that waited for the channel");
  const asked = performance.now();
  channel.send("hello");
  await until(() => texts.includes("hello"), "echo on the data channel");
  const echo = performance.now() - asked;
  channel.send("x".repeat(4_096));
  await until(() => texts.some((text) => text.length === 4_096), "echo of a long message");

  sender.dtmf?.insertDTMF("5", 120);
  await new Promise((wake) => setTimeout(wake, seconds * 1_000));
  const heard = await inbound();
  const pair = (await entries("candidate-pair")).find((one) => one.nominated && one.state === "succeeded");
  const local = (await entries("local-candidate")).find((one) => one.id === pair?.localCandidateId);
  const [transport] = await entries("transport");

  if (restart) {
    pc.restartIce();
    const fragment = (text) => text.match(/ice-ufrag:(\S+)/)[1];
    const restarted = await negotiate("PATCH", location);
    if (fragment(restarted.sdp) === fragment(sdp)) throw new Error("the same credentials");
    // Until then audio goes on by the old ones.
    const used = async () => {
      const [{ selectedCandidatePairId: id }] = await entries("transport");
      const pair = (await entries("candidate-pair")).find((one) => one.id === id);
      return (await entries("remote-candidate")).find((one) => one.id === pair?.remoteCandidateId)?.usernameFragment;
    };
    await until(async () => (await used()) === fragment(restarted.sdp), "pair with the new credentials");
    const before = (await inbound()).packetsReceived;
    await until(async () => (await inbound()).packetsReceived >= before + 75, "audio after the restart");
    channel.send("again");
    await until(() => texts.includes("again"), "echo after the restart");
  }
  const [outbound] = await entries("outbound-rtp");
  const [codec] = (await entries("codec")).filter((one) => one.id === outbound.codecId);
  const end = await inbound();
  pc.close();
  return {
    answered, connected, open, echo, location, sdp,
    received: heard.packetsReceived, energy: heard.totalAudioEnergy, lost: end.packetsLost, sent: outbound.packetsSent,
    codec: codec.mimeType, protocol: local?.protocol, srtp: transport.srtpCipher, dtls: transport.dtlsCipher,
  };
}
