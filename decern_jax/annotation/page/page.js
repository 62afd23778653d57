// The actions of keys and buttons.

import {
  go,
  hearServer,
  nextOpen,
  open,
  page,
  redraw,
  save,
  write,
} from "./flow.js";
import { listen } from "./keys.js";
import { isLatest, Refused } from "./requests.js";

const POLL_MS = 2000;

const input = document.getElementById("text");
const canAnswer = () => page.phase === "ready";
const isAtEnd = () => page.phase === "end";

// Chooses an option: as the answer, or as one of several labels.
function take(option) {
  if (!option || !canAnswer()) return;
  if (option.isNew && page.confirming !== option.name) {
    page.confirming = option.name;
    redraw();
    return;
  }
  if (!page.query.is_multi_label) {
    save([option.name]);
    return;
  }
  if (!page.draft.delete(option.name)) page.draft.add(option.name);
  page.drafts.set(page.at, page.draft);
  page.isTyping = false;
  write("");
  redraw();
}

function skip() {
  if (canAnswer() || page.phase === "broken") save(null);
}

function saveNone() {
  if (canAnswer()) save([]);
}

function saveDraft() {
  if (!canAnswer()) return;
  if (page.draft.size) {
    save([...page.draft]);
    return;
  }
  page.problem = "Nothing is chosen: 0 saves “none of the classes”.";
  redraw();
}

function enter() {
  if (page.isOutdated) open();
  else if (isAtEnd()) goOn();
  else if (page.options[page.active]) take(page.options[page.active]);
  else if (page.query.is_multi_label) saveDraft();
  else if (page.answers.has(page.at)) go(page.at + 1);
}

function goOn() {
  const next = nextOpen(0);
  if (next < page.query.items.length) go(next);
}

function escape() {
  if (page.pending) {
    page.pending.abort();
    return;
  }
  page.isTyping = false;
  page.problem = "";
  write("");
  redraw();
}

function mark(step) {
  const { length } = page.options;
  if (!length) return;
  const from = page.active < 0 && step < 0 ? 0 : page.active;
  page.active = (from + step + length) % length;
  page.confirming = "";
  redraw();
}

input.addEventListener("input", () => {
  page.problem = "";
  write(input.value);
  redraw();
});

document.getElementById("choices").addEventListener("click", (event) => {
  const option = event.target.closest("[role=option]");
  if (option) take(page.options[Number(option.dataset.index)]);
  input.focus();
});

const back = () => go(page.at - 1);
const next = () => go(page.at + 1);

listen(page, {
  enter,
  escape,
  skip,
  back,
  next,
  saveNone,
  up: () => mark(-1),
  down: () => mark(1),
  take: (index) => take(page.options[index]),
  startTyping() {
    page.isTyping = true;
    redraw();
  },
  focusText() {
    if (!isAtEnd()) input.focus();
  },
});

const BUTTONS = {
  save: saveDraft,
  none: saveNone,
  skip,
  back,
  next,
  go: enter,
  review: back,
};
for (const [id, command] of Object.entries(BUTTONS)) {
  document.getElementById(id).addEventListener("click", command);
}

window.addEventListener("beforeunload", (event) => {
  if (page.pending || page.drafts.size) event.preventDefault();
});

// At the end, the page checks regularly for the next query.
async function poll() {
  if (isAtEnd() && !page.isOutdated) {
    try {
      page.isOutdated = !(await isLatest(page.query.version));
      page.isLost = false;
    } catch (error) {
      if (error instanceof Refused) page.problem = error.message;
      else hearServer(false);
    }
    redraw();
  }
  setTimeout(poll, POLL_MS);
}

poll();
open();
