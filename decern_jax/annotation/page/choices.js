// The options for an image, in the order in which they are shown.

import { find, findClose, rank, tidy } from "./names.js";

export const NUM_SHOWN = 9;

// Returns all known names: those of the query, then those of the answers.
export function knownNames(query, answers) {
  const given = [...answers.values()].flatMap((labels) => labels ?? []);
  return [...new Set([...query.class_names, ...given])];
}

// Returns {options, numMore}: each option with its `name`, its predicted
// probability (`share`), the `key` that chooses it, and whether it `isNew`.
export function listChoices(query, index, answers, text) {
  const { predictions } = query.items[index];
  const ranked = rank(
    knownNames(query, answers),
    predictions,
    countUses(answers),
  );
  const wanted = tidy(text);
  const found = wanted ? find(ranked, wanted) : ranked;
  const names = found.slice(0, NUM_SHOWN);
  const numMore = found.length - names.length;
  const isNew = wanted && !ranked.includes(wanted);
  if (isNew && !found.length) names.push(...findClose(ranked, wanted));
  const shares = new Map(predictions);
  const options = names.map((name, i) => ({
    name,
    share: shares.get(name) ?? null,
    key: wanted ? "" : String(i + 1),
    isNew: false,
  }));
  const added = { name: wanted, key: "", isNew: true };
  // Without a match, similar names are only suggestions: the new name is first.
  if (isNew && found.length) options.push(added);
  else if (isNew) options.unshift(added);
  return { options, numMore };
}

function countUses(answers) {
  const uses = new Map();
  for (const name of [...answers.values()].flatMap((labels) => labels ?? [])) {
    uses.set(name, (uses.get(name) ?? 0) + 1);
  }
  return uses;
}
