// Placing a call, loaded only when somebody is about to call. This is the honest start of it: microphone, offer, and
// the media server's answer. A media session is not carried yet, so an accepted call is closed again at once and
// reported as failed; nothing here pretends to be connected.
//
// It imports nothing, because the first-paint modules are served as one file (see main.js).

const OFFER_MS = 5_000;
const ANSWER_MS = 10_000;

/** A start that failed, by the contract's error code. */
export class CallError extends Error {
  /** @param {string} code */
  constructor(code) {
    super(code);
    this.code = code;
  }
}

/**
 * @typedef {{mediaUrl?: string, iceServers?: RTCIceServer[], token: () => Promise<string>, signal: AbortSignal,
 *   heard: () => void}} Start `heard` is told when the microphone is open; `signal` gives the start up
 * @param {Start} start
 * @returns {Promise<never>}
 * @throws {CallError} or the signal's own reason, when the visitor gave up
 */
export async function placeCall({ mediaUrl, iceServers, token, signal, heard }) {
  const microphone = await openMicrophone();
  const peer = new RTCPeerConnection({ iceServers: iceServers ?? [] });
  try {
    signal.throwIfAborted();
    heard();
    if (!mediaUrl) throw new CallError("media_failed");
    for (const track of microphone.getAudioTracks()) peer.addTrack(track, microphone);
    const offer = await within(OFFER_MS, makeOffer(peer));
    const bearer = `Bearer ${await token()}`;
    signal.throwIfAborted();
    const address = await postOffer(`${mediaUrl}/v1/calls`, offer, bearer, signal);
    await hangUp(address, bearer);
    throw new CallError("media_failed");
  } finally {
    // A peer connection or a live microphone would also keep the page out of the back/forward cache.
    for (const track of microphone.getTracks()) track.stop();
    peer.close();
  }
}

/** @returns {Promise<MediaStream>} */
async function openMicrophone() {
  if (!isSecureContext || !navigator.mediaDevices?.getUserMedia) throw new CallError("insecure_context");
  // Browsers that can tell say in advance that the page did not delegate the microphone; asking would only be "denied".
  const policy = /** @type {any} */ (document).permissionsPolicy ?? /** @type {any} */ (document).featurePolicy;
  if (policy?.allowsFeature?.("microphone") === false) throw new CallError("mic_policy");
  try {
    // Plain values are wishes: a device that cannot fulfil one is still taken.
    return await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 },
    });
  } catch (error) {
    throw new CallError(microphoneCode(error instanceof DOMException ? error.name : ""));
  }
}

/** @param {string} name of the exception `getUserMedia` ended with */
export function microphoneCode(name) {
  switch (name) {
    case "NotAllowedError":
    case "SecurityError":
      return "mic_denied";
    case "NotFoundError":
    case "OverconstrainedError":
      return "mic_missing";
    case "NotReadableError":
    case "AbortError":
      return "mic_busy";
    default:
      return "internal";
  }
}

/** @param {RTCPeerConnection} peer */
async function makeOffer(peer) {
  await peer.setLocalDescription();
  // Candidates are not waited for: the media server learns ours from the connectivity checks.
  return peer.localDescription?.sdp ?? "";
}

/**
 * @param {string} url
 * @param {string} offer
 * @param {string} bearer
 * @param {AbortSignal} signal
 * @returns {Promise<string>} the call's own address
 */
async function postOffer(url, offer, bearer, signal) {
  const limit = AbortSignal.timeout(ANSWER_MS);
  let answer, text;
  try {
    answer = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/sdp", authorization: bearer },
      body: offer,
      credentials: "omit",
      signal: either(signal, limit),
    });
    text = await answer.text();
  } catch {
    signal.throwIfAborted();
    throw new CallError("network_unreachable");
  }
  const location = answer.headers.get("location");
  if (answer.status === 201 && location) return new URL(location, url).href;
  throw new CallError(answerCode(answer.status, errorType(text)));
}

/**
 * A refusal by the media server says nothing about the destination, which was not tried: `destination_unavailable`,
 * `busy` and their like come later and over the control channel.
 * @param {number} status
 * @param {string} type of the error envelope
 */
export function answerCode(status, type) {
  if (status === 401 || status === 403) return "session_refused";
  if (status === 409 && type === "provider_inactive") return "provider_inactive";
  if (status === 429) return "call_limit";
  return "media_failed";
}

/** @param {string} text */
function errorType(text) {
  try {
    return String(JSON.parse(text).error.type);
  } catch {
    return "";
  }
}

/**
 * @param {string} address
 * @param {string} bearer
 */
async function hangUp(address, bearer) {
  const signal = AbortSignal.timeout(ANSWER_MS);
  const options = { method: "DELETE", headers: { authorization: bearer }, keepalive: true, signal };
  // The server also ends a call whose browser never connects.
  await fetch(address, { ...options, credentials: "omit" }).catch(() => undefined);
}

/**
 * @param {AbortSignal} a
 * @param {AbortSignal} b
 */
function either(a, b) {
  const both = new AbortController();
  for (const signal of [a, b]) {
    if (signal.aborted) both.abort(signal.reason);
    else signal.addEventListener("abort", () => both.abort(signal.reason), { once: true });
  }
  return both.signal;
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
