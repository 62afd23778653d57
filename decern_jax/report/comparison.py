"""Finished runs that can be compared: collected, checked, by strategy."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
from typing import Any

from etils import epath

from decern_jax.report import runs
from decern_jax.runs.records import Metric, Record, metric_of

# The strategy that all others are compared with.
REFERENCE = "random"

# Differing settings that a message shows.
_MAX_SHOWN = 8


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Runs that differ in their strategy and their seed alone.

  Attributes:
    settings: The settings that all runs share, by dotted name.
    data: What identifies their data and model.
    runs: Records by name of the strategy, then by seed, both sorted.
    unfinished: A line for each run left out: its folder, and how far it is.
  """

  settings: dict[str, Any]
  data: dict[str, Any]
  runs: dict[str, dict[int, list[Record]]]
  unfinished: tuple[str, ...]

  @property
  def num_labeled(self) -> list[int]:
    """Number of labels in every round, the same for all runs."""
    by_seed = next(iter(self.runs.values()))
    return [record["num_labeled"] for record in next(iter(by_seed.values()))]

  @property
  def seeds(self) -> list[int]:
    """The seeds that any strategy has."""
    return sorted({seed for by_seed in self.runs.values() for seed in by_seed})

  @property
  def metric(self) -> Metric:
    """What the runs are judged by."""
    by_seed = next(iter(self.runs.values()))
    return metric_of(next(iter(by_seed.values()))[0])

  def curves(self, metric: str) -> dict[str, dict[int, list[float]]]:
    """Returns a metric of the test part.

    Args:
      metric: Its name in the records, such as "accuracy".

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
  folders: Iterable[epath.PathLike],
  *,
  options: Mapping[str, Sequence[str]],
) -> Comparison:
  """Reads the runs in folders, and checks that they can be compared.

  Runs that are not finished are left out, by name.  A strategy whose runs
  differ in its own options counts as several, named by these options.

  Args:
    folders: Folders of runs, or of such folders at any depth.
    options: For each strategy, the settings of the section `selection` that it
      alone reads; a strategy may differ from the others in these.

  Returns:
    The comparison.

  Raises:
    ValueError: If a folder has no run, no run is finished, a file is not as a
      run leaves it, two runs have one strategy and seed, or runs differ in
      other settings, in their data or in their numbers of labels; holds the
      difference.
  """
  found = [runs.read(path) for path in runs.find(folders)]
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


def _check_same(
  found: Sequence[runs.Run], options: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
  """Returns the settings that runs share; refuses runs that differ."""
  own = {f"selection.{name}" for names in options.values() for name in names}
  own |= {runs.STRATEGY, runs.SEED}

  def traits(run: runs.Run) -> dict[str, dict[str, Any]]:
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
  return {k: v for k, v in found[0].settings.items() if k not in own}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
  """Returns lines that tell where two mappings differ.

  Args:
    one: A mapping, such as settings by name.
    other: Another one.

  Returns:
    A line for each of the first names, and one for how many there are more.
  """
  lines = []
  for name in sorted(set(one) | set(other)):
    left, right = one.get(name), other.get(name)
    if left != right:
      if isinstance(left, list) and isinstance(right, list):
        # Of long lists, such as the classes, only where they part.
        pairs = enumerate(zip(left, right, strict=False))
        parted = (at for at, (a, b) in pairs if a != b)
        at = next(parted, min(len(left), len(right)))
        name, left, right = f"{name}[{at}:]", left[at:], right[at:]
      lines.append(f"{name}: {left!r:.200} and {right!r:.200}")
  more = [f"and {len(lines) - _MAX_SHOWN} more"]
  return lines[:_MAX_SHOWN] + (more if len(lines) > _MAX_SHOWN else [])


def _group(
  found: Sequence[runs.Run], options: Mapping[str, Sequence[str]]
) -> dict[str, dict[int, list[Record]]]:
  """Returns the records by name of the strategy and by seed."""
  names = _names(found, options)
  folders = {}
  for run, name in zip(found, names, strict=True):
    seed = run.settings[runs.SEED]
    other = folders.setdefault((name, seed), run)
    if other is not run:
      raise ValueError(
        f"Expected one run of {name} with seed {seed}, got {other.folder} and"
        f" {run.folder}."
      )
  groups: dict[str, dict[int, list[Record]]] = {}
  for (name, seed), run in sorted(folders.items(), key=lambda item: item[0]):
    groups.setdefault(name, {})[seed] = run.records
  return groups


def _names(
  found: Sequence[runs.Run], options: Mapping[str, Sequence[str]]
) -> list[str]:
  """Returns the strategy of each run, with the options that its runs vary."""
  values: dict[tuple[str, str], set[str]] = {}
  for run in found:
    strategy = run.settings[runs.STRATEGY]
    for option in options.get(strategy, ()):
      value = repr(run.settings.get(f"selection.{option}"))
      values.setdefault((strategy, option), set()).add(value)

  def name_of(run: runs.Run) -> str:
    strategy = run.settings[runs.STRATEGY]
    varied = [
      f"{option}={run.settings.get(f'selection.{option}')!r}"
      for option in options.get(strategy, ())
      if len(values[strategy, option]) > 1
    ]
    return " ".join([strategy, *varied])

  return [name_of(run) for run in found]
