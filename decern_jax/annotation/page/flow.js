// The state of the page: which image is shown, and what is saved when.

import { listChoices } from "./choices.js";
import { Pictures } from "./pictures.js";
import { loadQuery, Refused, saveAnswer } from "./requests.js";
import { draw, inWords } from "./view.js";

const NO_SERVER = "the page’s server does not answer. Is its command running?";

// Tells the server which answers are of this page, and which came later: one
// that was taken back may still be on its way.
const NAME = crypto.randomUUID();
let numAnswers = 0;

export const page = {
  phase: "loading", // ready, broken, saving, retrying, end or stopped
  query: null,
  answers: new Map(), // position -> names, or null where it was skipped
  drafts: new Map(), // position -> names that are chosen, and not saved
  pictures: null,
  at: 0,
  picture: null,
  trouble: "", // why the image cannot be shown
  draft: new Set(),
  text: "",
  isTyping: false, // "/" was pressed: digits and spaces are letters
  options: [],
  numMore: 0,
  active: -1, // the option that Enter takes
  confirming: "", // the name that Enter adds
  note: "",
  problem: "",
  isLost: false, // the server does not answer
  isOutdated: false, // the run has asked anew
  pending: null, // aborts the answer that is being saved
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

// Reads the latest query, and shows its first image without an answer.
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

// Returns the first image without an answer, from one on and then from the
// start; the end, if all have one.
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
  // One that was fetched before is there at once, without a flicker.
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

// Returns the images that come after one, those without an answer first.
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

// Saves an answer, and goes on when it is on the disk.
export async function save(labels) {
  const at = page.at;
  const answer = {
    version: page.query.version,
    position: at,
    labels,
    page: NAME,
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
    " Esc takes it back.";
  redraw();
}

function endUnsaved(error, labels) {
  const wasTakenBack = page.pending.signal.aborted;
  page.pending = null;
  page.note = "";
  if (wasTakenBack) {
    page.problem =
      `Taken back: ${inWords(labels)}. It may have been saved all the same;` +
      " another answer replaces it.";
  } else if (error.isStale) {
    page.isOutdated = true;
    page.problem =
      "Not saved: the run has asked anew since. Enter shows what it asks now.";
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

