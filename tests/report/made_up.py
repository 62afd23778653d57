"""Folders of made-up runs, as the driver leaves them."""

from collections.abc import Mapping, Sequence
import json
import pathlib
import shutil

from decern_jax.report import comparison
from decern_jax.runs import records, workdir

CLASSES = ("ant", "bee", "cat")

# Of 12 images: four of each class.
IDS = tuple(f"train/{i:02d}.png" for i in range(12))
LABELS = [i % 3 for i in range(12)]

OPTIONS = {"decern": ("diversity_gamma",), "margin": (), "random": ()}

# Accuracies in two rounds, by strategy and seed: the areas are their means.
CURVES = {
  "decern": {1: (0.3, 0.7), 11: (0.2, 0.7), 111: (0.4, 0.9)},
  "margin": {1: (0.3, 0.6), 11: (0.2, 0.7), 111: (0.4, 0.7)},
  "random": {1: (0.3, 0.5), 11: (0.2, 0.4), 111: (0.4, 0.6)},
}


def make_records(
  accuracies: Sequence[float],
  *,
  num_labeled: Sequence[int] | None = None,
  select_seconds: float = 0.25,
  **others,
) -> list[records.Record]:
  """Returns the records of a run; two images are selected in each round."""
  num_labeled = num_labeled or [10 * (i + 1) for i in range(len(accuracies))]
  last = len(accuracies) - 1
  return [
    {
      "round": i,
      "num_labeled": num_labeled[i],
      "test": {"accuracy": accuracy, "balanced_accuracy": accuracy - 0.1},
      "selected": [] if i == last else list(IDS[2 * i : 2 * i + 2]),
      "scores": None,
      "seconds": {"train": 2.0, "select": 0.0 if i == last else select_seconds},
      **others,
    }
    for i, accuracy in enumerate(accuracies)
  ]


def write_run(
  folder: pathlib.Path,
  strategy: str,
  seed: int,
  found: Sequence[records.Record],
  *,
  num_rounds: int | None = None,
  data: Mapping[str, object] | None = None,
  **settings,
) -> pathlib.Path:
  """Writes the folder of a run anew, and returns it.

  Args:
    folder: The folder.
    strategy: Its strategy.
    seed: Its seed.
    found: Its records.
    num_rounds: Rounds of the whole run; None: as many as there are records.
    data: What differs in data.json.
    **settings: Other settings, by dotted name with `__` for the dots.
  """
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  config = {
    "dataset.name": "image_folder",
    "model.name": "small_cnn",
    "train.scope": "head",
    "num_rounds": num_rounds or len(found),
    "selection.strategy": strategy,
    "selection.options.diversity_gamma": 0.8,
    "seed": seed,
    **{name.replace("__", "."): value for name, value in settings.items()},
  }
  digest = {
    "class_names": list(CLASSES),
    "train": "12 examples abc",
    "test": "6 examples def",
    "model": "ghi",
    **(data or {}),
  }
  (folder / workdir.CONFIG_FILE).write_text(json.dumps(config))
  (folder / workdir.DATA_FILE).write_text(json.dumps(digest))
  # In one piece: `records.append` waits for the disk after each record.
  lines = [json.dumps(record) + "\n" for record in found]
  (folder / records.FILE_NAME).write_text("".join(lines))
  return folder


def write_runs(
  folder: pathlib.Path,
  curves: Mapping[str, Mapping[int, Sequence[float]]],
  **settings,
) -> pathlib.Path:
  """Writes `folder`/<strategy>/seed<seed>, and returns the folder."""
  for strategy, by_seed in curves.items():
    for seed, accuracies in by_seed.items():
      write_run(
        folder / strategy / f"seed{seed}",
        strategy,
        seed,
        make_records(accuracies),
        **settings,
      )
  return folder


def collect(
  folder: pathlib.Path,
  curves: Mapping[str, Mapping[int, Sequence[float]]],
  **settings,
) -> comparison.Comparison:
  """Returns the comparison of made-up runs, the only ones in `folder`."""
  shutil.rmtree(folder, ignore_errors=True)
  return comparison.collect(
    [write_runs(folder, curves, **settings)], options=OPTIONS
  )
