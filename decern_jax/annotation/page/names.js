// Names of classes: order, search and comparison.

const NUM_KEYS = 9;
const MAX_CLOSE = 3;

// Names that people would confuse have the same folded form.
export function fold(name) {
  return name
    .normalize("NFKD")
    .replace(/\p{M}+/gu, "")
    .toLowerCase()
    .replace(/[\s_-]+/g, " ")
    .trim();
}

export function tidy(name) {
  return name.normalize("NFC").replace(/\s+/g, " ").trim();
}

// Returns all names: first the predicted ones, the most likely in front. If
// there are more classes than keys, the most used follow; then the others in
// their own order, so that each key keeps its meaning.
export function rank(classNames, predictions, uses) {
  const predicted = predictions.map(([name]) => name);
  const others = classNames.filter((name) => !predicted.includes(name));
  const names = [...new Set([...predicted, ...others])];
  if (names.length <= NUM_KEYS) return names;
  const usesOf = (name) => uses.get(name) ?? 0;
  others.sort((a, b) => usesOf(b) - usesOf(a));
  return [...new Set([...predicted, ...others])];
}

// Returns the names that contain a text: the exact name, then names that differ
// in accents or case, then names that begin with it, then names with a word that
// begins with it, then the rest; each group in the given order.
export function find(names, text) {
  const wanted = fold(text);
  const groups = [[], [], [], [], []];
  for (const name of names) {
    const folded = fold(name);
    if (name === text) groups[0].push(name);
    else if (folded === wanted) groups[1].push(name);
    else if (folded.startsWith(wanted)) groups[2].push(name);
    else if (folded.includes(` ${wanted}`)) groups[3].push(name);
    else if (folded.includes(wanted)) groups[4].push(name);
  }
  return groups.flat();
}

// Returns the names most similar to a text, so that a typing error does not
// become a new class.
export function findClose(names, text) {
  const wanted = fold(text);
  const limit = wanted.length < 4 ? 1 : 2;
  return names
    .map((name) => [distance(fold(name), wanted), name])
    .filter(([slips]) => slips <= limit)
    .sort(([a], [b]) => a - b)
    .slice(0, MAX_CLOSE)
    .map(([, name]) => name);
}

// Returns how many letters must be added, removed or replaced (Levenshtein).
function distance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const isOther = a[i - 1] === b[j - 1] ? 0 : 1;
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + isOther));
    }
    row = next;
  }
  return row[b.length];
}
