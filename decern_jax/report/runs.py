"""The folders of runs: where they are, and what they hold."""

from collections.abc import Iterable, Iterator
import dataclasses
import json
from typing import Any

from etils import epath

from decern_jax.io import storage
from decern_jax.runs import records, workdir

STRATEGY = "selection.strategy"
SEED = "seed"
NUM_ROUNDS = "num_rounds"

# What a run keeps in its folder, large and without runs.
_NO_RUNS = ("checkpoints",)


@dataclasses.dataclass(frozen=True)
class Run:
  """What the folder of a run holds.

  Attributes:
    folder: The folder.
    settings: All settings, by dotted name, with the seed.
    data: What identifies its data and model; empty before the first round.
    records: Records of its rounds.
  """

  folder: epath.Path
  settings: dict[str, Any]
  data: dict[str, Any]
  records: list[records.Record]

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
    """The folder, and how far the run is."""
    total = self.settings[NUM_ROUNDS]
    return f"{self.folder} ({len(self.records)} of {total} rounds)"


def find(folders: Iterable[epath.PathLike]) -> list[epath.Path]:
  """Returns the folders of runs, each once.

  Args:
    folders: Folders of runs, or of such folders at any depth.

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
  """Reads the folder of a run, which may have just begun.

  Args:
    folder: The folder.

  Raises:
    ValueError: If its files are not as a run leaves them.
  """
  settings = _read_json(folder / workdir.CONFIG_FILE)
  for name in (STRATEGY, SEED, NUM_ROUNDS):
    if name not in settings:
      raise ValueError(f"Expected a setting `{name}` in {folder}, got none.")
  found = records.read(folder)
  data = _read_json(folder / workdir.DATA_FILE) if found else {}
  return Run(folder, settings, data, found)


def _walk(folder: epath.Path) -> Iterator[epath.Path]:
  """Yields the folders of runs in a folder, which may be one itself."""
  if (folder / workdir.CONFIG_FILE).exists():
    yield folder
  for path in folder.iterdir():
    if path.is_dir() and path.name not in _NO_RUNS:
      yield from _walk(path)


def _read_json(path: epath.Path) -> dict[str, Any]:
  """Returns the mapping in a file."""
  try:
    found = json.loads(path.read_text())
  except (ValueError, OSError) as error:
    raise ValueError(f"Expected settings in {path}, got {error}.") from None
  if not isinstance(found, dict):
    raise ValueError(f"Expected settings in {path}, got {found!r:.200}.")
  return found
