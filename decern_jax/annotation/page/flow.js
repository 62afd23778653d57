// The state of the page: the image that is shown, and the saving of answers.

import { listChoices } from "./choices.js";
import { Pictures } from "./pictures.js";
import { loadQuery, Refused, saveAnswer } from "./requests.js";
import { draw, inWords } from "./view.js";

const NO_SERVER = "the page’s server does not answer. Is its command running?";

// With the number of the answer, this lets the server refuse an answer that
// arrives after a later one of this page.
const PAGE_ID = crypto.randomUUID();
let numAnswers = 0;

export const page = {
  phase: "loading", // ready, broken, saving, retrying, end or stopped
  query: null,
  answers: new Map(), // index -> names, or null if skipped
  drafts: new Map(), // index -> chosen names that are not saved yet
  pictures: null,
  at: 0,
  picture: null,
  trouble: "", // the reason why the image cannot be shown
  draft: new Set(),
  text: "",
  isTyping: false, // "/" was pressed: digits and spaces are text
  options: [],
  numMore: 0,
  active: -1, // index of the option that Enter chooses
  confirming: "", // the new name that Enter will add
  note: "",
  problem: "",
  isLost: false, // the server does not answer
  isOutdated: false, // the run has a newer query
  pending: null, // AbortController of the answer that is being saved
};

const input = document.getElementById("text");

export function redraw() {
  if (page.query && page.at < page.query.items.length) {
    Object.assign(
      page,
      listChoices(page.query, page.at, page.answers, page.text),
    );
  }
  draw(page);
}

export function write(text) {
  page.text = text;
  page.confirming = "";
  page.active = text.trim() ? 0 : -1;
}

// Loads the latest query, and shows its first image without an answer.
export async function open() {
  try {
    page.query = await loadQuery();
  } catch (error) {
    stop(error);
    return;
  }
  const given = Object.entries(page.query.answers);
  page.answers = new Map(given.map(([at, labels]) => [Number(at), labels]));
  page.drafts = new Map();
  page.pictures = new Pictures(page.query.version, hearServer);
  page.isOutdated = false;
  page.note = "";
  page.problem = "";
  await show(nextOpen(0));
}

export function hearServer(isThere) {
  if (page.isLost === !isThere) return;
  page.isLost = !isThere;
  redraw();
}

// Returns the index of the next image without an answer, starting at `from` and
// wrapping around; the number of images if all have an answer.
export function nextOpen(from) {
  const { length } = page.query.items;
  const order = [...Array(length).keys()];
  const ahead = [...order.slice(from), ...order.slice(0, from)];
  return ahead.find((at) => !page.answers.has(at)) ?? length;
}

async function show(at) {
  page.at = at;
  page.isTyping = false;
  page.trouble = "";
  write("");
  if (at >= page.query.items.length) {
    page.phase = "end";
    redraw();
    document.getElementById("verdict").focus();
    return;
  }
  page.draft = page.drafts.get(at) ?? new Set(page.answers.get(at) ?? []);
  page.phase = "loading";
  const { image, ready } = page.pictures.get(at);
  image.alt = `Image ${at + 1}: ${page.query.items[at].id}`;
  page.picture = image;
  // An image that was fetched ahead is shown at once, without a flicker.
  if (image.complete && image.naturalWidth) page.phase = "ready";
  redraw();
  input.focus();
  const trouble = await ready;
  if (page.picture !== image) return;
  page.trouble = trouble;
  if (page.phase === "loading") page.phase = trouble ? "broken" : "ready";
  redraw();
  await page.pictures.fetchAhead(ahead(at), () => page.at === at);
}

// Returns the indices after one: images without an answer first.
function ahead(at) {
  const { length } = page.query.items;
  const after = [...Array(length).keys()].slice(at + 1);
  const isOpen = (other) => !page.answers.has(other);
  return [...after.filter(isOpen), ...after.slice(0, 1)];
}

export function go(at) {
  if (page.pending || at < 0 || at > page.query.items.length) return;
  page.note = "";
  page.problem = "";
  show(at);
}

// Saves an answer, and shows the next image when it is on the disk.
export async function save(labels) {
  const at = page.at;
  const answer = {
    version: page.query.version,
    index: at,
    labels,
    page_id: PAGE_ID,
    serial: ++numAnswers,
  };
  page.pending = new AbortController();
  page.phase = "saving";
  page.problem = "";
  page.note = `Saving: ${inWords(labels)} …`;
  redraw();
  try {
    const { signal } = page.pending;
    const onTrouble = (error) => tellTrouble(error, labels);
    await saveAnswer(answer, { signal, onTrouble });
  } catch (error) {
    endUnsaved(error, labels);
    return;
  }
  page.pending = null;
  page.problem = "";
  page.isLost = false;
  page.note = `Saved: ${inWords(labels)} (image ${at + 1}).`;
  page.answers.set(at, labels);
  page.drafts.delete(at);
  await show(nextOpen(at + 1));
}

function tellTrouble(error, labels) {
  const why =
    error instanceof Refused
      ? `Not saved: ${error.message}.`
      : `Not saved: ${NO_SERVER}`;
  page.phase = "retrying";
  page.note = "";
  page.problem =
    `${why} The answer “${inWords(labels)}” is kept here and sent again;` +
    " Esc cancels it.";
  redraw();
}

function endUnsaved(error, labels) {
  const wasTakenBack = page.pending.signal.aborted;
  page.pending = null;
  page.note = "";
  if (wasTakenBack) {
    page.problem =
      `Cancelled: ${inWords(labels)}. It may have been saved already;` +
      " a new answer replaces it.";
  } else if (error.isStale) {
    page.isOutdated = true;
    page.problem =
      "Not saved: the run has a newer query. Enter shows its images.";
  } else {
    page.problem = `Not saved: ${error.message}`;
  }
  page.phase = page.trouble ? "broken" : "ready";
  redraw();
}

function stop(error) {
  page.phase = "stopped";
  page.problem =
    error instanceof Refused
      ? error.message
      : "The page’s server does not answer: start its command, then reload.";
  redraw();
}

