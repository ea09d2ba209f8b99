// The visitor's microphone: opened when a call begins, and again should it be unplugged.

import { CallError } from "./line.js";

/**
 * @param {string} [device] this one and no other
 * @returns {Promise<MediaStream>}
 * @throws {CallError}
 */
export async function openMicrophone(device) {
  if (!isSecureContext || !navigator.mediaDevices?.getUserMedia) throw new CallError("insecure_context");
  // Browsers that can tell say in advance that the page did not delegate the microphone; asking would only be "denied".
  const policy = /** @type {any} */ (document).permissionsPolicy ?? /** @type {any} */ (document).featurePolicy;
  if (policy?.allowsFeature?.("microphone") === false) throw new CallError("mic_policy");
  try {
    // Plain values are wishes: a device that cannot fulfil one is still taken.
    return await navigator.mediaDevices.getUserMedia({
      audio: {
        echoCancellation: true,
        noiseSuppression: true,
        autoGainControl: true,
        channelCount: 1,
        ...(device && { deviceId: { exact: device } }),
      },
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
