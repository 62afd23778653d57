"""Tiny data, weights and configurations that tests run whole experiments on."""

from collections.abc import Callable, Iterable, Mapping
import os
import pathlib
import re
import struct
import subprocess
import sys
from typing import Any
import zlib

import cv2
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from configs import common
from decern_jax.models import pretrained
from decern_jax.models.backbones import small_cnn

ROOT = pathlib.Path(__file__).resolve().parents[1]
CLASSES = ("ant", "bee", "cat", "dog")
SIZE = 32

# What differs between the records of equal runs.
COSTS = ("seconds", "images_per_second")


def draw(label: int, rng: np.random.Generator) -> np.ndarray:
  """Returns a noisy image of a class, uint8 [SIZE, SIZE + 8, 3]."""
  image = rng.integers(0, 120, (SIZE, SIZE + 8, 3))
  image[..., label % 3] += 60
  image[: SIZE // 2] += 50 * (label // 3)
  return image.astype(np.uint8)


def write_image_folder(
  folder: pathlib.Path,
  *,
  num_train: int = 8,
  num_test: int = 6,
  num_val: int = 0,
  classes: tuple[str, ...] = CLASSES,
) -> pathlib.Path:
  """Writes `folder`/<split>/<class>/<number>.png, and returns the folder."""
  rng = np.random.default_rng(0)
  for split, count in (
    ("train", num_train),
    ("test", num_test),
    ("val", num_val),
  ):
    for label, name in enumerate(classes if count else ()):
      (folder / split / name).mkdir(parents=True)
      for number in range(count):
        path = folder / split / name / f"{number:02d}.png"
        cv2.imwrite(os.fspath(path), draw(label, rng))
  return folder


def write_weights(
  path: pathlib.Path, module: nn.Module | None = None, *, seed: int = 0
) -> pathlib.Path:
  """Writes random weights of `small_cnn` or a module, and returns the path."""
  module = module or small_cnn.SmallCNN()
  rng = np.random.default_rng(seed)
  image = jnp.zeros((1, SIZE, SIZE, 3))
  shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), image))

  def draw_leaf(shape: jax.ShapeDtypeStruct) -> np.ndarray:
    scale = np.sqrt(2.0 / max(1, np.prod(shape.shape[:-1])))
    is_bias = len(shape.shape) == 1
    values = np.zeros if is_bias else rng.standard_normal
    return (scale * values(shape.shape)).astype(np.float32)

  pretrained.save_safetensors(path, jax.tree.map(draw_leaf, shapes))
  return path


def make_config(
  data: pathlib.Path,
  weights: pathlib.Path,
  cache_dir: pathlib.Path,
  **changes,
) -> Any:
  """Returns a locked configuration of a run that takes a second.

  A `ConfigDict`, whose fields type checkers do not see.

  Args:
    data: Folder of images.
    weights: File of weights.
    cache_dir: Where features are kept.
    **changes: Other values, by dotted name with `__` for the dots.
  """
  config = common.get_config()
  values = {
    "num_rounds": 3,
    "dataset.name": "image_folder",
    "dataset.path": os.fspath(data),
    "dataset.resize_size": SIZE,
    "dataset.image_size": SIZE,
    "model.name": "small_cnn",
    "model.weights": os.fspath(weights),
    "train.num_epochs": 20,
    "selection.strategy": "random",
    "system.num_workers": 2,
    # Batches are padded to this size.
    "system.embed_batch_size": 32,
    "system.cache_dir": os.fspath(cache_dir),
  }
  changes = {name.replace("__", "."): value for name, value in changes.items()}
  config.update_from_flattened_dict({**values, **changes})
  return config.lock()


def write_inputs(folder: pathlib.Path, **counts: Any) -> Callable[..., Any]:
  """Writes images and weights, and returns what makes a configuration of them.

  Args:
    folder: Where `data`, `weights.safetensors` and `cache` are to be.
    **counts: As for `write_image_folder`.
  """
  write_image_folder(folder / "data", **counts)
  weights = write_weights(folder / "weights.safetensors")

  def make(data=folder / "data", cache=folder / "cache", **changes):
    return make_config(data, weights, cache, **changes)

  return make


def run_script(script: str, **environment: str) -> str:
  """Runs Python code in a process of its own, and returns what it printed."""
  done = subprocess.run(
    [sys.executable, "-c", script],
    cwd=ROOT,
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  return done.stdout


def code_blocks(page: str, language: str = "python") -> list[str]:
  """Returns the blocks of code of a page.

  Args:
    page: Its path in the repository.
    language: The language of the blocks.
  """
  text = (ROOT / page).read_text(encoding="utf-8")
  return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def without_costs(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Returns the records of a run, which are those of any equal run."""
  return [{k: v for k, v in r.items() if k not in COSTS} for r in records]


def leaves(tree: dict, prefix: str = "") -> list:
  """Returns the values of a nested dictionary with their dotted names."""
  found = []
  for name, value in tree.items():
    if isinstance(value, dict):
      found += leaves(value, f"{prefix}{name}.")
    else:
      found.append((f"{prefix}{name}", value))
  return found


def png_header(width: int, height: int) -> bytes:
  """A PNG that announces a size and holds next to nothing."""
  chunks = b""
  header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  for kind, body in (
    (b"IHDR", header),
    (b"IDAT", zlib.compress(b"")),
    (b"IEND", b""),
  ):
    crc = struct.pack(">I", zlib.crc32(kind + body))
    chunks += struct.pack(">I", len(body)) + kind + body + crc
  return b"\x89PNG\r\n\x1a\n" + chunks
