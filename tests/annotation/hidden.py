"""Images whose labels a test knows and a run does not."""

import csv
import os
import pathlib
from typing import Any

import cv2
import numpy as np

from configs import my_images
from decern_jax.annotation import answers, query
from decern_jax.annotation.state import Answer
from tests import tiny

NUM_POOL, NUM_TEST = 24, 12
NUM_ROUNDS, BUDGET = 3, 4


def write_images(
  folder: pathlib.Path, *, num_pool: int = NUM_POOL
) -> dict[str, str]:
  """Writes a pool without labels, and test images in folders of classes.

  Args:
    folder: Where.
    num_pool: Images of the pool.

  Returns:
    The class of each image of the pool, by id.
  """
  rng = np.random.default_rng(0)
  (folder / "photos").mkdir(parents=True)
  class_of = {}
  for number in range(num_pool):
    label = int(rng.integers(len(tiny.CLASSES)))
    id_ = f"photos/{number:02d}.png"
    cv2.imwrite(os.fspath(folder / id_), tiny.draw(label, rng))
    class_of[id_] = tiny.CLASSES[label]
  for number in range(NUM_TEST):
    label = number % len(tiny.CLASSES)
    part = folder / "test" / tiny.CLASSES[label]
    part.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(os.fspath(part / f"{number}.png"), tiny.draw(label, rng))
  return class_of


def make_config(folder: pathlib.Path, **changes) -> Any:
  """Returns a locked configuration of a run on `folder / "images"`."""
  config = my_images.get_config()
  values = {
    "num_rounds": NUM_ROUNDS,
    "dataset.path": os.fspath(folder / "images"),
    "dataset.image_size": tiny.SIZE,
    "dataset.resize_size": tiny.SIZE,
    "model.name": "small_cnn",
    "model.weights": os.fspath(folder / "weights.safetensors"),
    "train.method": "supervised",
    "train.num_epochs": 20,
    "selection.strategy": "margin",
    "selection.initial_strategy": "random",
    "selection.initial_budget": BUDGET,
    "selection.budget": BUDGET,
    "system.num_devices": 1,
    "system.num_workers": 2,
    "system.embed_batch_size": NUM_POOL,
    "system.cache_dir": os.fspath(folder / "cache"),
  }
  changes = {name.replace("__", "."): value for name, value in changes.items()}
  config.update_from_flattened_dict({**values, **changes})
  return config.lock()


def respond(workdir, given: list[Answer], name: str = "me.jsonl") -> None:
  """Adds answers to a file in the folder of answers."""
  path = pathlib.Path(workdir) / query.ANSWERS_FOLDER / name
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, "ab") as file:
    file.write(b"".join(map(answers.to_line, given)))


def asked(workdir) -> query.Query:
  """Returns the last query."""
  return query.read(workdir, query.require_latest_round(workdir))


def respond_truly(workdir, class_of: dict[str, str]) -> None:
  """Answers all of the last query as it is."""
  items = asked(workdir).items
  respond(workdir, [Answer(item.id, (class_of[item.id],)) for item in items])


def write_table(folder: pathlib.Path, class_of: dict[str, str]) -> pathlib.Path:
  """Writes the labels of all images, for a run that simulates people."""
  path = folder / "images" / "labels.csv"
  rows = [[id_, "train", name] for id_, name in sorted(class_of.items())]
  for image in sorted((folder / "images" / "test").glob("*/*.png")):
    id_ = image.relative_to(folder / "images").as_posix()
    rows.append([id_, "test", image.parent.name])
  with open(path, "w", newline="") as file:
    csv.writer(file).writerows([["path", "split", "label"], *rows])
  return path
