// Draws the page as a function of its state.

const element = (id) => document.getElementById(id);

const NO_SERVER =
  "The page’s server does not answer. Is its command running? Answers that were" +
  " shown as saved are safe.";

const MARKS = { "\n": "⏎", "\r": "⏎", "\t": "⇥" };

// Returns an id with visible signs for line breaks and tabs.
function visible(id) {
  return id.replace(/[\n\r\t]/g, (mark) => MARKS[mark]);
}

function percent(share) {
  const value = 100 * share;
  return value > 0 && value < 1 ? "< 1 %" : `${Math.round(value)} %`;
}

export function inWords(labels) {
  if (labels === null) return "skipped";
  return labels.length ? labels.join(", ") : "none of the classes";
}

function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

function make(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

export function draw(page) {
  document.body.dataset.phase = page.phase;
  drawText("status", page.note);
  drawText("problem", page.problem || (page.isLost ? NO_SERVER : ""));
  if (!page.query) return;
  const isAsking = page.at < page.query.items.length;
  element("ask").hidden = !isAsking;
  element("end").hidden = isAsking;
  drawHeader(page);
  if (isAsking) drawImage(page);
  if (isAsking) drawPanel(page);
  else drawEnd(page);
}

// Unchanged text is not set again: screen readers would repeat it.
function drawText(id, text) {
  if (element(id).textContent !== text) element(id).textContent = text;
}

function drawHeader({ query, answers, at }) {
  const numAsked = query.items.length;
  const round = `Round ${query.round}`;
  const place = at < numAsked ? `Image ${at + 1} of ${numAsked}` : "The end";
  drawText("round", round);
  const facts = [
    query.strategy && `chosen by ${query.strategy}`,
    query.annotator && `labeled by ${query.annotator}`,
  ];
  drawText("facts", facts.filter(Boolean).join(" · "));
  drawText("count", `${place} · ${answers.size} answered`);
  element("progress").max = numAsked;
  element("progress").value = answers.size;
  document.title = `${place} · ${round}`;
}

function drawImage({ query, at, phase, picture, trouble }) {
  const item = query.items[at];
  const figure = element("figure");
  figure.dataset.index = at;
  figure.setAttribute("aria-busy", String(phase === "loading"));
  drawText("name", visible(item.id));
  const isScored = typeof item.score === "number";
  drawText("score", isScored ? `score ${item.score.toPrecision(3)}` : "");
  const shown = stageContent(phase, picture, trouble);
  if (element("stage").firstChild !== shown) {
    element("stage").replaceChildren(shown);
  }
}

function stageContent(phase, picture, trouble) {
  if (phase === "loading") return make("p", "waiting", "Loading the image …");
  if (!trouble) return picture;
  const box = make("div", "broken", "");
  box.append(
    make("strong", "", "This image cannot be shown."),
    make("p", "", trouble),
    make("p", "", "Space skips it."),
  );
  return box;
}

function drawPanel(page) {
  const { query, answers, at, options, active, phase, text, draft } = page;
  const isMulti = query.is_multi_label;
  drawText("question", isMulti ? "Which classes are in it?" : "Which class is it?");
  drawGiven(answers, at, isMulti, draft);
  const input = element("text");
  if (input.value !== text) input.value = text;
  const isActive = active in options;
  if (isActive) input.setAttribute("aria-activedescendant", `choice-${active}`);
  else input.removeAttribute("aria-activedescendant");
  const list = element("choices");
  list.setAttribute("aria-multiselectable", String(isMulti));
  list.replaceChildren(...options.map((option, i) => drawOption(page, option, i)));
  drawText("hint", hint(page));
  element("hint").classList.toggle("question", page.confirming !== "");
  for (const id of ["save", "none"]) element(id).hidden = !isMulti;
  for (const id of ["save", "none"]) element(id).disabled = phase !== "ready";
  element("skip").disabled = !["ready", "broken"].includes(phase);
  element("back").disabled = at === 0;
}

function drawGiven(answers, at, isMulti, draft) {
  const said = answers.has(at) ? `Saved: ${inWords(answers.get(at))}` : "";
  const chosen = isMulti ? [...draft].join(", ") : "";
  const isChanged = isMulti && chosen !== (answers.get(at) ?? []).join(", ");
  const parts = [said, isChanged && `Not saved yet: ${chosen || "nothing"}`];
  drawText("given", parts.filter(Boolean).join(" · "));
  element("given").classList.toggle("draft", isChanged);
}

function drawOption({ query, answers, at, active, draft }, option, i) {
  const chosen = query.is_multi_label ? draft : new Set(answers.get(at));
  const isChosen = chosen.has(option.name) && !option.isNew;
  const made = make("li", i === active ? "active" : "", "");
  made.id = `choice-${i}`;
  made.dataset.index = i;
  made.setAttribute("role", "option");
  made.setAttribute("aria-selected", String(isChosen));
  made.append(make("kbd", "", option.key));
  const label = option.isNew ? `New class: ${option.name}` : option.name;
  made.append(make("span", "label", label));
  if (option.share !== null) {
    made.style.setProperty("--share-of", option.share);
    made.append(make("span", "share", percent(option.share)));
  }
  return made;
}

function hint({ query, options, numMore, confirming, text, isTyping }) {
  if (confirming) {
    return `“${confirming}” is not a known class. Enter again adds it; Esc cancels.`;
  }
  if (!options.length && !text) {
    return "No class is known yet: type the name of one, then Enter.";
  }
  const more = numMore ? `${numMore} more: type to find them.` : "";
  if (text) return `${more} Enter chooses the marked class; ↑ ↓ move the mark.`;
  if (isTyping) return `${more} Digits are text now; Esc makes them shortcuts again.`;
  return query.is_multi_label ? `${more} Keys choose, Enter saves.` : more;
}

function drawEnd({ query, answers, isOutdated }) {
  const numAsked = query.items.length;
  const numOpen = numAsked - answers.size;
  const given = [...answers.values()];
  const numSkipped = given.filter((labels) => labels === null).length;
  const known = new Set(query.class_names);
  const names = new Set(given.flatMap((labels) => labels ?? []));
  const added = [...names].filter((name) => !known.has(name));
  drawText("verdict", verdict(numAsked, numOpen));
  const lines = [
    `${plural(answers.size - numSkipped, "image")} labeled, ${numSkipped} skipped.`,
    added.length && `New classes: ${added.join(", ")}.`,
    `Every answer is saved in ${query.log}.`,
  ];
  const items = lines.filter(Boolean).map((line) => make("li", "", line));
  element("summary").replaceChildren(...items);
  drawThen(query, numOpen, isOutdated);
}

function verdict(numAsked, numOpen) {
  if (!numAsked) return "Nothing is asked.";
  if (!numOpen) return `All ${plural(numAsked, "image")} have an answer.`;
  return `${numOpen} of ${plural(numAsked, "image")} have no answer yet.`;
}

function drawThen({ command }, numOpen, isOutdated) {
  const go = element("go");
  const key = make("kbd", "", "Enter");
  go.hidden = !numOpen && !isOutdated;
  element("review").hidden = isOutdated;
  go.replaceChildren(key, isOutdated ? " Label the new images" : " Label the rest");
  const start = numOpen ? "To go on without the rest" : "To go on";
  const then = isOutdated
    ? [make("p", "", "The run has a new query.")]
    : [
        make("p", "", `${start}, run the command of the run once more:`),
        make("pre", "", command),
        make("p", "", "It reads the answers, trains, and writes a new query."
          + " Leave this page open: it shows the new images then."),
      ];
  element("then").replaceChildren(...then);
}
