// One call, from the tap to its end: microphone, connection to the media server, what happens on it, goodbye. Loaded only
// when somebody is about to call; served as one file with what it imports, none of it of the first paint (see main.js).
//
// It tells the widget's state machine what happens (`tell`) and decides nothing about what is shown or reported. It ends
// once: after `ended` or `failed` it says nothing more.

import { CallError, deleteCall, patchOffer, postOffer, readControl } from "./line.js";
import { openMicrophone } from "./microphone.js";
import { callScreen } from "./panel.js";

// Every wait has its end. The media server has limits of its own, and its word comes first wherever it can still reach us.
const OFFER_MS = 5_000;
const CONNECT_MS = 15_000;
const PICK_UP_MS = 70_000;
const SILENCE_MS = 5_000;
const GIVE_UP_MS = 2_000;
const LEAVE_MS = 2_000;
// Lost: first let it come back by itself, then three restarts of ICE; after 30 s it is over.
const RESTART_AFTER_MS = 2_000;
const NEXT_RESTART_MS = 9_000;
const RESTARTS = 3;
const LOST_MS = 30_000;

/**
 * @typedef {{mediaUrl?: string, iceServers?: RTCIceServer[], token: () => Promise<string>, bearer: () => string | undefined,
 *   tell: (input: import("./state.js").Input) => Promise<unknown> | void}} Surroundings `token` may open a session and fails
 *   with a `code`; `bearer` is the token at hand; `tell` answers with the report that what it was told leads to, if any
 */

export class Call {
  /** How a call is drawn; it comes with the call. */
  static screen = callScreen;
  /** Once everything about the call is done, so that the next one finds the line free. @type {Promise<unknown>} */
  over = Promise.resolve();
  #ended = false;
  #givenUp = new AbortController();
  #listening = new AbortController();
  /** @type {Set<ReturnType<typeof setTimeout>>} */
  #timers = new Set();
  #around;
  /** @type {MediaStream | undefined} */
  #microphone;
  /** @type {RTCPeerConnection | undefined} */
  #peer;
  /** @type {RTCDataChannel | undefined} */
  #channel;
  #audio = new Audio();
  /** @type {string | undefined} */
  #address;
  #started = 0;
  #muted = false;
  #held = false;
  #answered = false;
  #wasUp = false;
  #lost = false;
  /** What ends the present wait: for the connection, then for an answer. @type {ReturnType<typeof setTimeout> | undefined} */
  #deadline;
  /** @type {any} */
  #awake;

  /** @param {Surroundings} around */
  constructor(around) {
    this.#around = around;
  }

  /** From the tap to the media server's answer; the rest comes by itself. Never fails: a failure is told. */
  async start() {
    try {
      await this.#start();
    } catch (error) {
      const { code } = /** @type {any} */ (error);
      // The browser's own exceptions have numbers.
      this.#fail(typeof code === "string" ? code : "internal");
    }
  }

  async #start() {
    const { mediaUrl, token, tell } = this.#around;
    const microphone = await openMicrophone();
    if (this.#ended) return release(microphone);
    this.#take(microphone);
    tell({ type: "microphone" });
    if (!mediaUrl) throw new CallError("media_failed");
    const peer = this.#connect(microphone);
    const offer = await within(OFFER_MS, makeOffer(peer));
    const bearer = await token();
    // Nothing was asked of the media server yet, so nothing is left to end there.
    if (this.#givenUp.signal.aborted) throw new CallError("internal");
    const isWanted = () => !this.#leaving && !this.#ended;
    const { address, answer } = await postOffer(`${mediaUrl}/v1/calls`, offer, bearer, this.#givenUp.signal, isWanted);
    this.#address = address;
    this.#started = performance.now();
    tell({ type: "started", callId: address.slice(address.lastIndexOf("/") + 1) });
    if (this.#leaving) return this.hangUp();
    this.#wait(CONNECT_MS, "network_unreachable");
    await peer.setRemoteDescription({ type: "answer", sdp: answer });
  }

  /** The visitor gave up before there was an answer. */
  #leaving = false;

  /** Ends it for the visitor. A start that the media server has already heard of gets a moment to come back. */
  hangUp() {
    if (this.#ended) return;
    if (this.#address) return this.#finish({ type: "ended", reason: "user_hangup", duration: this.#duration() });
    if (!this.#microphone) return void (this.#ended = true);
    this.#leaving = true;
    this.#after(GIVE_UP_MS, () => {
      this.#givenUp.abort();
      this.#fail("internal");
    });
  }

  /** The page goes away: nothing can be waited for. */
  abandon() {
    if (this.#address) return this.hangUp();
    this.#givenUp.abort();
    this.#finish({ type: "failed", code: "internal" }, "over");
  }

  /** @param {boolean} on */
  mute(on) {
    this.#muted = on;
    for (const track of this.#microphone?.getAudioTracks() ?? []) track.enabled = !on;
  }

  /**
   * By message, not as sound of the browser's: it is repeated until it arrives, and the media server knows the clock that
   * the contact centre's digits have.
   * @param {string} digit
   */
  press(digit) {
    this.#send({ type: "digits", digits: digit });
  }

  /** Lets the visitor hear the call; a browser may want a tap first. */
  listen() {
    const told = (/** @type {boolean} */ silent) => this.#tell({ type: "shows", what: { silent } });
    this.#audio.play().then(() => told(false), () => told(true));
  }

  // The connection.

  /** @param {MediaStream} microphone */
  #connect(microphone) {
    const peer = new RTCPeerConnection({ iceServers: this.#around.iceServers ?? [], bundlePolicy: "max-bundle" });
    this.#peer = peer;
    peer.addTransceiver(microphone.getAudioTracks()[0], { direction: "sendrecv", streams: [microphone] });
    peer.ontrack = ({ track }) => {
      // The answer may still be on its way in when the call ends.
      if (this.#ended) return;
      this.#audio.srcObject = new MediaStream([track]);
      this.listen();
    };
    peer.onconnectionstatechange = () => this.#changed(peer.connectionState);
    const channel = peer.createDataChannel("control");
    this.#channel = channel;
    channel.onopen = () => {
      this.#wait(PICK_UP_MS, "no_answer");
      void this.#listDevices();
    };
    channel.onmessage = ({ data }) => this.#heard(readControl(data));
    // It says how a call ends before it closes. When it did not, it is the media server itself that went.
    channel.onclose = () => this.#fail("media_failed");
    const { signal } = this.#listening;
    addEventListener("online", () => this.#elsewhere(), { signal });
    navigator.mediaDevices.addEventListener("devicechange", () => void this.#listDevices(), { signal });
    /** @type {any} */
    const network = /** @type {any} */ (navigator).connection;
    // It also changes with every new estimate of speed; only another kind of network is another way.
    let kind = network?.type;
    network?.addEventListener("change", () => kind !== (kind = network.type) && this.#elsewhere(), { signal });
    return peer;
  }

  /** @param {RTCPeerConnectionState} state */
  #changed(state) {
    if (this.#ended) return;
    if (state === "connected") return this.#found();
    if (state === "failed" && !this.#wasUp) return this.#fail("network_unreachable");
    if (this.#wasUp && (state === "disconnected" || state === "failed")) {
      void this.#recover(state === "failed" ? 0 : RESTART_AFTER_MS);
    }
  }

  #found() {
    this.#wasUp = true;
    if (this.#lost) this.#tell({ type: "shows", what: { lost: false } });
    this.#lost = false;
  }

  /** @param {number} pause before the first restart */
  async #recover(pause) {
    if (this.#lost) return;
    this.#lost = true;
    this.#tell({ type: "shows", what: { lost: true } });
    const since = performance.now();
    for (let tries = 0; tries < RESTARTS; tries++) {
      await this.#pause(pause);
      if (!this.#lost || this.#ended) return;
      await this.#restart();
      pause = NEXT_RESTART_MS;
    }
    await this.#pause(LOST_MS - (performance.now() - since));
    if (this.#lost) this.#fail("media_failed");
  }

  /** The network is another one: the old way may be dead, and noticing would take seconds. */
  #elsewhere() {
    if (this.#wasUp && !this.#lost) void this.#restart();
  }

  /** One restart of ICE. What can pass is left to the next try. */
  async #restart() {
    const [peer, address, token] = [this.#peer, this.#address, this.#around.bearer()];
    if (!peer || !address || !token) return;
    try {
      peer.restartIce();
      const answer = await patchOffer(address, await within(OFFER_MS, makeOffer(peer)), token);
      await peer.setRemoteDescription({ type: "answer", sdp: answer });
      if (peer.connectionState === "connected") this.#found();
    } catch (error) {
      if (error instanceof CallError) this.#fail(error.code);
    }
  }

  // What is heard.

  /** @param {ReturnType<typeof readControl>} message */
  #heard(message) {
    switch (message?.type) {
      case "progress":
        this.#tell({ ...message, at: performance.now() });
        if (message.phase === "connected") this.#pickedUp();
        break;
      case "shows":
        this.#held = message.what.held ?? this.#held;
        this.#tell(message);
        break;
      case "ended":
        this.#finish({ ...message, duration: this.#duration() }, "over");
        break;
      case "failed":
        this.#finish(message, "over");
        break;
    }
  }

  #pickedUp() {
    if (this.#answered) return;
    this.#answered = true;
    clearTimeout(this.#deadline);
    this.#after(SILENCE_MS, async () => {
      let packets = 0;
      for (const report of (await this.#peer?.getStats())?.values() ?? []) {
        if (report.type === "inbound-rtp") packets += report.packetsReceived;
      }
      if (packets === 0 && !this.#held) this.#fail("no_audio");
    });
    // A dark screen would take the microphone away on many telephones.
    const stay = /** @type {any} */ (navigator).wakeLock?.request("screen");
    stay?.then((/** @type {any} */ lock) => (this.#ended ? lock.release() : (this.#awake = lock))).catch(() => undefined);
  }

  /** Takes a microphone into use, muted as the one before. @param {MediaStream} microphone */
  #take(microphone) {
    release(this.#microphone);
    this.#microphone = microphone;
    this.mute(this.#muted);
    const [track] = microphone.getAudioTracks();
    // Unplugged or taken away: the next best takes its place.
    track.onended = () => void this.#replace().catch((error) => this.#fail(error instanceof CallError ? error.code : "internal"));
  }

  /** @param {string} [device] none: the browser chooses */
  async #replace(device) {
    const microphone = await openMicrophone(device);
    if (this.#ended) return release(microphone);
    this.#take(microphone);
    await this.#peer?.getSenders()[0]?.replaceTrack(microphone.getAudioTracks()[0]);
    await this.#listDevices();
  }

  /**
   * Talks or listens through another device. One that cannot be had leaves things as they are.
   * @param {"audioinput" | "audiooutput"} kind
   * @param {string} id
   */
  async use(kind, id) {
    const chosen = kind === "audioinput" ? this.#replace(id) : /** @type {any} */ (this.#audio).setSinkId(id);
    await Promise.resolve(chosen).catch(() => undefined);
    await this.#listDevices();
  }

  /** Shows which there are, and which are in use. */
  async #listDevices() {
    const found = await navigator.mediaDevices.enumerateDevices().catch(() => []);
    const speaker = /** @type {any} */ (this.#audio).sinkId;
    const used = [this.#microphone?.getAudioTracks()[0]?.getSettings().deviceId, speaker || "default"];
    const devices = [];
    for (const { kind, deviceId: id, label } of found) {
      // Not every browser lets a page choose the speaker.
      if (!id || kind === "videoinput" || (kind === "audiooutput" && speaker === undefined)) continue;
      devices.push({ kind, id, label, used: id === used[kind === "audioinput" ? 0 : 1] });
    }
    this.#tell({ type: "shows", what: { devices } });
  }

  // The end.

  /** @param {string} code */
  #fail(code) {
    this.#finish({ type: "failed", code }, this.#address ? "failed" : "over");
  }

  /**
   * @param {import("./state.js").Input} input how it ends
   * @param {"over" | "failed"} [how] `over`: the media server knows. `failed`: it does not, and one of an earlier version
   *   reports that the visitor hung up, so it hears of it only once our report is in: of two reports of one end, the first counts
   */
  #finish(input, how) {
    if (this.#ended) return;
    const reported = this.#tell(input);
    this.#ended = true;
    this.#listening.abort();
    for (const timer of this.#timers) clearTimeout(timer);
    // A live microphone or a peer connection would also keep the page out of the back/forward cache.
    release(this.#microphone);
    this.#audio.srcObject = null;
    this.#awake?.release().catch(() => undefined);
    if (how === "failed") {
      const limit = new Promise((resolve) => setTimeout(resolve, LEAVE_MS));
      const code = input.type === "failed" ? input.code : undefined;
      this.over = Promise.race([reported, limit]).then(() => this.#leave(true, code, limit));
    } else {
      this.over = Promise.resolve(this.#leave(how !== "over"));
    }
  }

  /**
   * @param {boolean} tell whether the media server is to be told
   * @param {string} [errorCode] what ended it, when that was not the visitor
   * @param {Promise<unknown>} [limit] until when the connection may stay open
   */
  async #leave(tell, errorCode, limit) {
    const token = this.#around.bearer();
    if (tell) this.#send({ type: "hang_up", errorCode });
    const told = tell && this.#address && token ? deleteCall(this.#address, token, errorCode) : undefined;
    // A connection that closes says that the visitor left, which is not to arrive first.
    if (errorCode) await Promise.race([told, limit]);
    this.#peer?.close();
    return told;
  }

  // Small things.

  #duration() {
    return Math.floor((performance.now() - this.#started) / 1_000);
  }

  /** @param {import("./state.js").Input} input */
  #tell(input) {
    return this.#ended ? undefined : this.#around.tell(input);
  }

  /** @param {Record<string, unknown>} message */
  #send(message) {
    if (this.#channel?.readyState === "open") this.#channel.send(JSON.stringify(message));
  }

  /**
   * Begins a wait in place of the one before.
   * @param {number} ms
   * @param {string} code it fails with
   */
  #wait(ms, code) {
    clearTimeout(this.#deadline);
    this.#deadline = this.#after(ms, () => this.#fail(code));
  }

  /**
   * @param {number} ms
   * @param {() => void} act unless the call ends before
   */
  #after(ms, act) {
    const timer = setTimeout(act, ms);
    this.#timers.add(timer);
    return timer;
  }

  /** @param {number} ms */
  #pause(ms) {
    return new Promise((resolve) => this.#after(ms, () => resolve(undefined)));
  }
}

/** @param {MediaStream | undefined} microphone */
function release(microphone) {
  for (const track of microphone?.getTracks() ?? []) {
    track.onended = null;
    track.stop();
  }
}

/** @param {RTCPeerConnection} peer */
async function makeOffer(peer) {
  await peer.setLocalDescription();
  // Candidates are not waited for: the media server learns ours from the connectivity checks.
  return peer.localDescription?.sdp ?? "";
}

/**
 * @template T
 * @param {number} ms
 * @param {Promise<T>} promise
 * @returns {Promise<T>}
 */
function within(ms, promise) {
  const limit = new Promise((_, reject) => setTimeout(() => reject(new CallError("media_failed")), ms));
  return Promise.race([promise, /** @type {Promise<never>} */ (limit)]);
}
