// Requests to the server, and retries while it does not answer.

const SECONDS_TO_WAIT = 15;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5000;

// The server refused a request.
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  get isForGood() {
    return this.status < 500;
  }

  // The run has a newer query than the page shows.
  get isStale() {
    return this.status === 409;
  }
}

async function request(path, options = {}) {
  const signals = [AbortSignal.timeout(1000 * SECONDS_TO_WAIT)];
  if (options.signal) signals.push(options.signal);
  const reply = await fetch(path, {
    ...options,
    cache: "no-store",
    signal: AbortSignal.any(signals),
  });
  if (!reply.ok) throw new Refused(reply.status, await reply.text());
  return reply;
}

export async function loadQuery() {
  return (await request("query")).json();
}

export async function isLatest(version) {
  return (await request(`latest/${version}`)).json();
}

export function imagePath(version, index) {
  return `image/${version}/${index}`;
}

// Returns the reason why an image cannot be loaded; "" if it can, and null if
// the server does not answer.
export async function whyNot(path) {
  try {
    await request(path);
    return "";
  } catch (error) {
    return error instanceof Refused ? error.message : null;
  }
}

// Sends an answer until it is saved, and passes each failure to `onTrouble`.
// Throws if the answer is refused for good, or aborted by the signal.
export async function saveAnswer(answer, { signal, onTrouble }) {
  const options = {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(answer),
    signal,
  };
  let pause = FIRST_PAUSE_MS;
  for (;;) {
    try {
      await request("answer", options);
      return;
    } catch (error) {
      if (signal.aborted || error.isForGood) throw error;
      onTrouble(error);
    }
    await sleep(pause, signal);
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
  }
}

export function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
