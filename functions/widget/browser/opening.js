// When a closed widget opens again. Loaded where it is closed only.

// What timers can wait for, in milliseconds; longer waits are taken in parts.
const LONGEST_MS = 2 ** 31 - 1;
// Those who wait for the same moment do not all ask in it.
const SPREAD_MS = 3_000;

/**
 * Acts once, when the time has passed and somebody can see the page. Sleep stops the one clock in some browsers, and the other
 * may be set: whichever says first that it is time is believed, as being early costs one question.
 * @param {number} ms
 * @param {() => void} act
 */
export function whenDue(ms, act) {
  const wait = ms + Math.random() * SPREAD_MS;
  const [due, dueByDate] = [performance.now() + wait, Date.now() + wait];
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const check = () => {
    clearTimeout(timer);
    if (document.hidden) return;
    const left = Math.min(due - performance.now(), dueByDate - Date.now());
    if (left > 0) return void (timer = setTimeout(check, Math.min(left, LONGEST_MS)));
    document.removeEventListener("visibilitychange", check);
    act();
  };
  document.addEventListener("visibilitychange", check);
  check();
}
