"""Finished runs that can be compared: found, read, checked, and grouped."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
from typing import Any

from etils import epath

from decern_jax.io import storage
from decern_jax.runs import records, workdir
from decern_jax.runs.records import Metric, Record, metric_of

# The strategy that all others are compared with.
REFERENCE = "random"

# Settings of a run that a comparison reads.
STRATEGY = "selection.strategy"
SEED = "seed"
NUM_ROUNDS = "num_rounds"

# Folders inside a run that are large and hold no runs.
_NO_RUNS = ("checkpoints",)

# A message lists at most this many differing settings.
_MAX_SHOWN = 8

Options = Mapping[str, Sequence[str]]
"""For each strategy, the settings of `selection.options` that it reads."""


@dataclasses.dataclass(frozen=True)
class Run:
  """The content of a run's folder.

  Attributes:
    folder: The folder.
    settings: All settings, by dotted name, with the seed.
    data: What identifies its data and model; empty before the first round.
    records: Records of its rounds.
  """

  folder: epath.Path
  settings: dict[str, Any]
  data: dict[str, Any]
  records: list[Record]

  @property
  def is_finished(self) -> bool:
    """Whether all rounds are done."""
    return len(self.records) == self.settings[NUM_ROUNDS]

  @property
  def num_labeled(self) -> list[int]:
    """Number of labels in each round."""
    return [record["num_labeled"] for record in self.records]

  @property
  def progress(self) -> str:
    """The folder, and how many rounds are done."""
    total = self.settings[NUM_ROUNDS]
    return f"{self.folder} ({len(self.records)} of {total} rounds)"


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Runs that differ only in their strategy and their seed.

  Attributes:
    settings: The settings that all runs share, by dotted name.
    data: What identifies their data and model.
    runs: Records by name of the strategy, then by seed, both sorted.
    unfinished: The progress of each run that was left out.
  """

  settings: dict[str, Any]
  data: dict[str, Any]
  runs: dict[str, dict[int, list[Record]]]
  unfinished: tuple[str, ...]

  @property
  def num_labeled(self) -> list[int]:
    """Number of labels in every round, the same for all runs."""
    return [record["num_labeled"] for record in self._first_run]

  @property
  def seeds(self) -> list[int]:
    """The seeds of all strategies, sorted."""
    return sorted({seed for by_seed in self.runs.values() for seed in by_seed})

  @property
  def metric(self) -> Metric:
    """The main metric of the runs."""
    return metric_of(self._first_run[0])

  @property
  def _first_run(self) -> list[Record]:
    return next(iter(next(iter(self.runs.values())).values()))

  def curves(self, metric: str) -> dict[str, dict[int, list[float]]]:
    """Returns a metric of the test split.

    Returns:
      The metric per round, by strategy and by seed.
    """
    return {
      name: {
        seed: [record["test"][metric] for record in run]
        for seed, run in by_seed.items()
      }
      for name, by_seed in self.runs.items()
    }


def collect(
  folders: Iterable[epath.PathLike], *, options: Options
) -> Comparison:
  """Reads the runs in folders, and checks that they can be compared.

  Unfinished runs are left out and listed.  A strategy whose runs differ in its
  own options counts as several strategies, named after these options.

  Args:
    folders: Folders of runs, or folders that hold such folders at any depth.
    options: The settings in which a strategy may differ from the others.

  Raises:
    ValueError: If a folder has no run, no run is finished, a file is damaged,
      two runs have the same strategy and seed, or runs differ in other
      settings, in their data or in their numbers of labels; shows the
      difference.
  """
  found = [read(path) for path in find(folders)]
  finished = [run for run in found if run.is_finished]
  unfinished = [run.progress for run in found if not run.is_finished]
  if not finished:
    raise ValueError(f"Expected a finished run, got {', '.join(unfinished)}.")
  return Comparison(
    settings=_check_same(finished, options),
    data=finished[0].data,
    runs=_group(finished, options),
    unfinished=tuple(unfinished),
  )


def find(folders: Iterable[epath.PathLike]) -> list[epath.Path]:
  """Returns the folders of runs, each once.

  Args:
    folders: Folders of runs, or folders that hold such folders at any depth.

  Raises:
    ValueError: If there is no run in one of them.
  """
  found = {}
  for folder in map(storage.as_path, folders):
    runs = sorted(_walk(folder)) if folder.is_dir() else []
    if not runs:
      raise ValueError(
        f"Expected a folder of runs, which hold a {workdir.CONFIG_FILE}, got"
        f" {folder}."
      )
    found.update({run.resolve(): run for run in runs})
  return list(found.values())


def read(folder: epath.Path) -> Run:
  """Reads the folder of a run, finished or not.

  Raises:
    ValueError: If a file is missing or damaged.
  """
  names = (STRATEGY, SEED, NUM_ROUNDS)
  settings = workdir.read_settings(folder / workdir.CONFIG_FILE, names=names)
  found = records.read(folder)
  data = workdir.read_settings(folder / workdir.DATA_FILE) if found else {}
  return Run(folder, settings, data, found)


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
  """Returns lines that show where two mappings differ.

  Returns:
    A line for each of the first differing names, and one with the number of
    the remaining ones.
  """
  lines = []
  for name in sorted(set(one) | set(other)):
    left, right = one.get(name), other.get(name)
    if left == right:
      continue
    if isinstance(left, list) and isinstance(right, list):
      # Long lists, such as class names, are shown from the first difference.
      pairs = enumerate(zip(left, right, strict=False))
      unequal = (index for index, (a, b) in pairs if a != b)
      start = next(unequal, min(len(left), len(right)))
      name, left, right = f"{name}[{start}:]", left[start:], right[start:]
    lines.append(f"{name}: {left!r:.200} and {right!r:.200}")
  more = [f"and {len(lines) - _MAX_SHOWN} more"]
  return lines[:_MAX_SHOWN] + (more if len(lines) > _MAX_SHOWN else [])


def _walk(folder: epath.Path) -> Iterator[epath.Path]:
  """Yields the folders of runs in a folder, which may be a run itself."""
  if (folder / workdir.CONFIG_FILE).exists():
    yield folder
  for path in folder.iterdir():
    if path.is_dir() and path.name not in _NO_RUNS:
      yield from _walk(path)


def _check_same(found: Sequence[Run], options: Options) -> dict[str, Any]:
  """Returns the settings that the runs share; raises where others differ."""
  own = {
    f"selection.options.{name}" for names in options.values() for name in names
  }
  own |= {STRATEGY, SEED}

  def traits(run: Run) -> dict[str, dict[str, Any]]:
    shared = {k: v for k, v in run.settings.items() if k not in own}
    labels = {"num_labeled": run.num_labeled}
    return {"settings": shared, "data": run.data, "numbers of labels": labels}

  first = traits(found[0])
  for run in found[1:]:
    for what, other in traits(run).items():
      if first[what] != other:
        raise ValueError(
          f"Expected runs of the same {what}, got {found[0].folder} and"
          f" {run.folder}, which differ:\n  "
          + "\n  ".join(differences(first[what], other))
        )
  return first["settings"]


def _group(
  found: Sequence[Run], options: Options
) -> dict[str, dict[int, list[Record]]]:
  """Returns the records by name of the strategy and by seed."""
  runs = {}
  for run, name in zip(found, _names(found, options), strict=True):
    seed = run.settings[SEED]
    other = runs.setdefault((name, seed), run)
    if other is not run:
      raise ValueError(
        f"Expected one run of {name} with seed {seed}, got {other.folder} and"
        f" {run.folder}."
      )
  groups: dict[str, dict[int, list[Record]]] = {}
  for name, seed in sorted(runs):
    groups.setdefault(name, {})[seed] = runs[name, seed].records
  return groups


def _names(found: Sequence[Run], options: Options) -> list[str]:
  """Returns the strategy of each run, with the options that its runs vary."""
  chosen = []
  for run in found:
    strategy = run.settings[STRATEGY]
    values = {
      option: repr(run.settings.get(f"selection.options.{option}"))
      for option in options.get(strategy, ())
    }
    chosen.append((strategy, values))

  def varies(strategy: str, option: str) -> bool:
    return len({v[option] for name, v in chosen if name == strategy}) > 1

  return [
    " ".join(
      [strategy]
      + [f"{k}={v}" for k, v in values.items() if varies(strategy, k)]
    )
    for strategy, values in chosen
  ]
