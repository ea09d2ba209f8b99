// What the widget says, in English. Visitors' texts say what happened and what to do next, and blame nobody. Other languages
// are files of their own that take the place of these (language.js); what is for the site's owner and for developers
// (`owner`, the sentences of `call_error`) stays English.

/**
 * @typedef {{title: string, body: string, retry?: boolean, elsewhere?: boolean, owner?: string}} ErrorText
 *   `retry` offers "Try again"; `elsewhere` offers a window of the widget's own when it is framed
 */

export const TEXTS = {
  loading: "Getting ready…",
  ready: "Ready to call",
  title: "Talk to us",
  body: "Speak with us right here in your browser. No phone needed, nothing to install.",
  call: "Call",
  microphoneNote: "We’ll ask for your microphone.",
  askingTitle: "One moment",
  asking: "Waiting for your microphone…",
  askingBody: "If your browser asks, allow the microphone so that we can hear you.",
  dialling: "Calling…",
  diallingTitle: "Putting you through",
  diallingBody: "This usually takes a few seconds.",
  leaving: "Hanging up…",
  ringing: "Ringing…",
  ringingBody: "Somebody should answer soon.",
  connected: "Connected",
  connectedTitle: "You’re connected",
  held: "On hold",
  heldTitle: "You’re on hold",
  heldBody: "Stay on the line. They’ll be back.",
  lost: "Reconnecting…",
  lostTitle: "Hold on a moment",
  lostBody: "Your connection is gone. We’re getting it back.",
  mute: "Mute",
  unmute: "Unmute",
  muted: "Your microphone is off.",
  keypad: "Keypad",
  hear: "Tap to hear the call",
  quality1: "Poor connection",
  quality2: "Fair connection",
  quality3: "Good connection",
  quality4: "Very good connection",
  devices: "Audio",
  microphone: "Microphone",
  speaker: "Speaker",
  device: "Device",
  ended: "Call ended",
  endedBody: "Thank you for calling.",
  lasted: "It took",
  hangUp: "Hang up",
  closed: "Closed right now",
  closedTitle: "We’re closed right now",
  closedBody: "Please come back during our opening hours.",
  opens: "Open again",
  formStatus: "Before your call",
  formTitle: "Tell us a little first",
  formBody: "So that we can help you sooner.",
  optional: "optional",
  choose: "Please choose",
  missing: "Please fill this in.",
  unchosen: "Please choose one.",
  unticked: "Please tick this box to go on.",
  notEmail: "Please write an address such as name@example.com.",
  notPhone: "Please write a number such as +44 20 7946 0000.",
  notSent: "That didn’t get through. Please try again.",
  send: "Send",
  back: "Back",
  skip: "Skip",
  surveyTitle: "How was your call?",
  worst: "Very bad",
  best: "Very good",
  comment: "Anything to add?",
  thanks: "Thank you",
  thanksBody: "Your answers help us get better.",
  copied: "Copied",
  others: "Other ways to reach us",
  unavailable: "Not available",
  unconnected: "Not connected",
  retry: "Try again",
  elsewhere: "Open in a new window",
  owner: "Is this your website?",
  reference: "Reference",
};

const SETUP = {
  title: "Calls aren’t available here yet",
  body: "Something on this page still needs to be set up. Please reach us another way for now.",
};

/** @type {Record<string, ErrorText>} */
export const ERRORS = {
  app_not_found: {
    ...SETUP,
    owner: "No app has the id in this embed code. Copy the embed code from your console again and replace the one on this page.",
  },
  wrong_key: {
    ...SETUP,
    owner: "The widget key in this embed code isn’t valid for this app; it may have been rotated. Copy the embed code from your console again.",
  },
  wrong_settings: {
    ...SETUP,
    owner: "The profile or routing key in this embed code wasn’t accepted. Check both against your console.",
  },
  forbidden: {
    ...SETUP,
    owner: "This app doesn’t allow calls from here. Check its embed settings in your console.",
  },
  provider_inactive: {
    title: "Calls are switched off",
    body: "We can’t take calls through this page at the moment. Please try again later or reach us another way.",
    retry: true,
    owner: "The app has no active phone provider. Activate one in your console.",
  },
  preview_expired: {
    title: "This preview has expired",
    body: "Open it again from the console.",
  },
  rate_limited: {
    title: "A lot is going on",
    body: "There were many requests in a short time. Please wait a minute, then try again.",
    retry: true,
  },
  network_unreachable: {
    title: "We can’t reach our service",
    body: "Check your internet connection, then try again. A VPN or company network may be blocking calls.",
    retry: true,
  },
  session_refused: {
    title: "Let’s start afresh",
    body: "This page was open for a while and needs a new start. Please try again.",
    retry: true,
  },
  mic_policy: {
    title: "This page can’t use the microphone",
    body: "The page you’re on doesn’t pass the microphone on to calls. You can call from a window of its own.",
    elsewhere: true,
    owner: "Add allow=\"microphone; autoplay\" to the frame, and don’t forbid the microphone in the page’s Permissions-Policy.",
  },
  mic_denied: {
    title: "Your microphone is blocked",
    body: "Allow the microphone for this page in your browser’s address bar or settings, then try again.",
    retry: true,
    elsewhere: true,
  },
  mic_missing: {
    title: "No microphone found",
    body: "Connect a microphone or headset, then try again.",
    retry: true,
  },
  mic_busy: {
    title: "Your microphone is in use",
    body: "Another program or tab may be using it. Close that, then try again.",
    retry: true,
  },
  insecure_context: {
    title: "This page isn’t secure",
    body: "Browsers allow the microphone only on pages whose address starts with https. Please reach us another way.",
    owner: "Serve the page that embeds the widget over https.",
  },
  call_limit: {
    title: "All our lines are busy",
    body: "Please wait a minute, then try again.",
    retry: true,
  },
  media_failed: {
    title: "We couldn’t connect the call",
    body: "Your microphone is off again. Please try again in a moment or reach us another way.",
    retry: true,
  },
  no_audio: {
    title: "We couldn’t hear anything",
    body: "The call was answered, but no sound came through. Please try again.",
    retry: true,
  },
  busy: {
    title: "The line is busy",
    body: "Everybody is talking to somebody else. Please try again in a few minutes.",
    retry: true,
  },
  rejected: {
    title: "Your call wasn’t taken",
    body: "Nobody can take calls right now. Please try again later or reach us another way.",
    retry: true,
  },
  no_answer: {
    title: "Nobody answered",
    body: "We’re sorry to have kept you waiting. Please try again in a few minutes or reach us another way.",
    retry: true,
  },
  destination_unavailable: {
    title: "Nobody can be reached",
    body: "Our phone line isn’t working at the moment. Please try again later or reach us another way.",
    retry: true,
    owner: "The phone provider didn’t put the call through. Check the provider and the profile’s destination in your console.",
  },
  internal: {
    title: "Something went wrong",
    body: "That’s our fault, not yours. Please try again in a moment.",
    retry: true,
  },
};

/** In place of the above when there was a conversation. @type {Record<string, ErrorText>} */
export const BROKEN_OFF = {
  media_failed: {
    title: "We lost the connection",
    body: "Your internet connection broke off for too long. Please call again.",
    retry: true,
  },
  call_limit: {
    title: "That was a long call",
    body: "Calls end after an hour. If there is more to say, please call again.",
    retry: true,
  },
};

/** @type {Record<string, string>} */
const REPORTS = {
  mic_policy: "The page does not delegate the microphone to the widget's frame.",
  mic_denied: "The microphone was refused.",
  mic_missing: "No microphone was found.",
  mic_busy: "The microphone could not be opened.",
  insecure_context: "The page is not a secure context.",
  session_refused: "No valid session for the call.",
  provider_inactive: "The app has no active provider.",
  network_unreachable: "The media server could not be reached.",
  call_limit: "Too many calls.",
  media_failed: "The connection to the media server failed.",
  no_audio: "The contact centre sent no audio.",
  busy: "The contact centre is busy.",
  rejected: "The contact centre rejected the call.",
  no_answer: "Nobody answered.",
  destination_unavailable: "The destination could not be reached.",
};

/**
 * Whether the contract knows a code of a failed call.
 * @param {string} code
 */
export const isErrorCode = (code) => code === "internal" || Object.hasOwn(REPORTS, code);

/** @param {string} code */
export const reportText = (code) => REPORTS[code] ?? "The call failed inside the widget.";
