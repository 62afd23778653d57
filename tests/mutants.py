"""One-line changes of the package, each of which a default test must notice.

  python -m tests.mutants              # all of them: half an hour
  python -m tests.mutants ops/ report  # those whose file contains a word

The checkout is copied to a temporary folder. There each change is made on its
own, and its tests run until one fails. Prints that test for every change, and
exits with 1 if a change survives, which is a gap in the tests to close.
"""

import argparse
import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]

# Longer than any of the test files takes; a change may cause an endless loop.
TIMEOUT = 600

# What `pytest -q` calls a test that failed, a row of a table included.
FAILED = re.compile(r"^(?:FAILED|ERROR|SUBFAILED\S*)\s.*?(tests/\S+)", re.M)


class Mutant(NamedTuple):
  """A change that breaks the package.

  Attributes:
    file: The file, from `decern_jax/` on.
    old: Text that is in the file once.
    new: Text that takes its place.
    tests: Test files that run, from `tests/` on; one must fail.
  """

  file: str
  old: str
  new: str
  tests: tuple[str, ...]


# For each file, from `decern_jax/` on: what is changed, and what replaces it.
CHANGES = {
  "ops/block.py": (
    (
      "(rows >= begin) & (rows < num_rows)",
      "(rows >= begin) & (rows <= num_rows)",
    ),
    ("(num_rows + size - 1) // size", "num_rows // size"),
  ),
  "strategies/decern.py": (
    (
      "gamma * near - (1.0 - gamma) * far",
      "gamma * near + (1.0 - gamma) * far",
    ),
    (
      "return mean + gamma * std * skewness",
      "return mean - gamma * std * skewness",
    ),
  ),
  "ops/discrepancy.py": (
    ("confusion = power(entropy, 1.0 - d)", "confusion = power(entropy, d)"),
    (
      "share = share + jnp.where(fresh, _block_scores(block, tile), 0.0)",
      "share = share + _block_scores(block, tile)",
    ),
  ),
  "ops/kmeans.py": (
    ("(step < max_steps) & changed", "(step <= max_steps) & changed"),
  ),
  "ops/multilabel_metrics.py": (
    (
      "hits = np.sum(predicted & labels, axis=0)",
      "hits = np.sum(predicted & labels, axis=1)",
    ),
  ),
  "distributed/collective.py": (
    (
      "indices = indices + row_offset(len(values), axis_name)",
      "indices = indices + 0",
    ),
    ("mine = (local >= 0) & (local < len(rows))", "mine = local < len(rows)"),
  ),
  "strategies/pick.py": (
    ("ranking = jnp.where(candidates, scores, -jnp.inf)", "ranking = scores"),
  ),
  "strategies/typiclust.py": (
    (
      "squares = jnp.where(is_other & is_near & fresh[None], squares, jnp.inf)",
      "squares = jnp.where(is_near & fresh[None], squares, jnp.inf)",
    ),
  ),
  "strategies/badge.py": (
    ("norms = jnp.where(candidates, norms, 0.0)", "norms = norms + 0.0"),
  ),
  "training/evaluation.py": (
    ("correct = valid & (jnp.argmax", "correct = (jnp.argmax"),
  ),
  "training/recipe.py": (
    ("rise(times + 1.0 if by_step else times)", "rise(times)"),
    (
      "lambda leaf: leaf.ndim > 1, params",
      "lambda leaf: leaf.ndim > 0, params",
    ),
  ),
  "pretraining/loop.py": (
    (
      "learning_rates(recipe, state.step - 1, by_step=True)",
      "learning_rates(recipe, state.step, by_step=True)",
    ),
  ),
  "pretraining/objectives.py": (
    ("jnp.where(itself, -jnp.inf, queries", "jnp.where(itself, 0.0, queries"),
  ),
  "models/backbones/vit.py": (
    (
      "norm(tokens[:, 1 + self.num_registers :])",
      "norm(tokens[:, 2 + self.num_registers :])",
    ),
  ),
  "runs/round.py": (
    (
      "is_last = round_num == task.num_rounds - 1",
      "is_last = round_num == task.num_rounds",
    ),
    (
      'return candidates | state.labeled if "labels" in needs else candidates',
      "return candidates",
    ),
    ("previous = learner.fit(state.before())", "previous = learner.fit(state)"),
  ),
  "runs/driver.py": (
    (
      "manager, experiment.init(), max_step=len(found)",
      "manager, experiment.init(), max_step=len(found) + 1",
    ),
  ),
  "runs/experiment.py": (
    (
      '"is_multi_label": dataset.train.labels.ndim > 1,',
      '"is_multi_label": False,',
    ),
  ),
  "io/storage.py": (
    (
      "held = filelock.FileLock(path).acquire(blocking=False)",
      "held = contextlib.nullcontext()",
    ),
    (
      'raise OSError(f"{path}: {type(error).__name__}: {message}") from error',
      "del message",
    ),
  ),
  "data/augmentation.py": (
    ("0 < box_width <= width and", "0 < box_width < width and"),
  ),
  "data/imbalance.py": (
    (
      "return np.maximum(targets.astype(np.int64), 1)",
      "return targets.astype(np.int64)",
    ),
  ),
  "annotation/images.py": (
    ("if len(now) > len(ids):", "if len(now) >= len(ids):"),
  ),
  "annotation/inbox.py": (
    (
      "if rules.accept(answer) and answer not in seen:",
      "if rules.accept(answer):",
    ),
  ),
  "annotation/query.py": (("  _check_type(query.num_answers, int)\n", ""),),
  "annotation/quality/agreement.py": (
    ("if len(said) > 1\n", "if len(said) > 0\n"),
  ),
  "cli/config_flag.py": (("  storage.check_reachable(name)\n", ""),),
  "report/statistics.py": (
    (
      "factors = len(p_values) - np.arange(len(p_values))",
      "factors = len(p_values) - 1 - np.arange(len(p_values))",
    ),
    (
      "return np.round(np.asarray(differences, float), _DECIMALS)",
      "return np.asarray(differences, float)",
    ),
    ("np.flatnonzero(values >= target)", "np.flatnonzero(values > target)"),
  ),
  "report/comparison.py": (
    (
      'left, right = f"{name}[{start}:]", left[start:], right[start:]',
      'left, right = f"{name}[{start}:]", left[start:], right',
    ),
    ("  own |= {STRATEGY, SEED}\n", "  own |= {STRATEGY, SEED, NUM_ROUNDS}\n"),
  ),
  "report/summary.py": (
    ('if stage != SELECTION or record["selected"]:', "if True:"),
  ),
  "report/figures.py": (
    ("order = np.argsort(-np.array(", "order = np.argsort(np.array("),
  ),
  "report/page.py": (
    (
      "return UNKNOWN if value is None else",
      "return UNKNOWN if not value else",
    ),
  ),
}

# The tests of a file are those of its name, or these.
TESTS = {
  "strategies/badge.py": (
    "strategies/badge_test.py",
    "strategies/contract_test.py",
  ),
  "io/storage.py": ("io/storage_test.py",),
  "cli/config_flag.py": ("cli/main_flags_test.py", "cli/bad_input_test.py"),
}

MUTANTS = tuple(
  Mutant(file, old, new, TESTS.get(file, (file.replace(".py", "_test.py"),)))
  for file, changes in CHANGES.items()
  for old, new in changes
)


def apply(mutant: Mutant, root: pathlib.Path) -> str:
  """Changes the file of a mutant, and returns its text from before."""
  path = root / "decern_jax" / mutant.file
  text = path.read_text()
  count = text.count(mutant.old)
  if count != 1:
    raise ValueError(
      f"Expected {mutant.old!r} once in {mutant.file}, got it {count} times."
    )
  path.write_text(text.replace(mutant.old, mutant.new))
  return text


def find_failure(mutant: Mutant, root: pathlib.Path) -> str | None:
  """Returns the test that notices a change, None if there is none."""
  check_unchanged(mutant.tests, root)
  before = apply(mutant, root)
  try:
    return run_tests(mutant.tests, root)
  finally:
    (root / "decern_jax" / mutant.file).write_text(before)


@functools.cache
def check_unchanged(names: tuple[str, ...], root: pathlib.Path) -> None:
  """Checks that tests pass without a change."""
  failure = run_tests(names, root)
  if failure is not None:
    raise RuntimeError(f"Expected {failure} to pass without a change.")


def run_tests(names: tuple[str, ...], root: pathlib.Path) -> str | None:
  """Returns the first test of some files that fails, None if all pass."""
  try:
    done = subprocess.run(
      [
        *(sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "--tb=no"),
        *("-p", "no:cacheprovider"),
        *(f"tests/{name}" for name in names),
      ],
      cwd=root,
      # As Python may otherwise take code that was compiled in the same second.
      env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
      capture_output=True,
      text=True,
      timeout=TIMEOUT,
      check=False,
    )
  except subprocess.TimeoutExpired:
    return "a test that does not end"
  if done.returncode == 0:
    return None
  if done.returncode != 1:
    raise RuntimeError(f"The tests do not run:\n{done.stdout}{done.stderr}")
  return FAILED.findall(done.stdout)[0]


def find_ignored(folder: str, names: list[str]) -> list[str]:
  """Returns what of a folder is not copied: caches, runs, repositories."""
  if pathlib.Path(folder) == ROOT:
    return [name for name in names if name.startswith(".") or name == "runs"]
  return [name for name in names if name == "__pycache__"]


def say(line: str) -> None:
  """Prints a line at once."""
  sys.stdout.write(f"{line}\n")
  sys.stdout.flush()


def main() -> int:
  """Runs the mutants, and returns the exit status."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("words", nargs="*", help="parts of the files' names")
  words = parser.parse_args().words
  chosen = [
    mutant
    for mutant in MUTANTS
    if not words or any(word in mutant.file for word in words)
  ]
  survivors = 0
  with tempfile.TemporaryDirectory() as folder:
    copy = pathlib.Path(folder) / "checkout"
    shutil.copytree(ROOT, copy, ignore=find_ignored)
    for mutant in chosen:
      failure = find_failure(mutant, copy)
      survivors += failure is None
      change = f"{mutant.file}: {mutant.old!r} -> {mutant.new!r}"
      say(f"{change}\n  {failure or 'SURVIVES ' + ' '.join(mutant.tests)}")
  say(f"{len(chosen) - survivors} of {len(chosen)} changes are noticed.")
  return int(survivors > 0)


if __name__ == "__main__":
  sys.exit(main())
