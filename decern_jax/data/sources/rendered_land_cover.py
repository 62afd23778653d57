"""The rendered data set of several labels: land from above."""

import dataclasses
import hashlib

import numpy as np

from decern_jax.data.dataset import Dataset, Split
from decern_jax.data.registry import Options, Source, register
from decern_jax.data.rendering.land_scene import draw_land
from decern_jax.data.sources.rendered import check_no_path
from decern_jax.io.validation import check_integer

# Part of the fingerprint: raise it with every change that alters a picture.
_VERSION = 1

FREQUENCIES = {
  "field": 0.55,
  "trees": 0.45,
  "road": 0.36,
  "building": 0.28,
  "water": 0.2,
  "bare soil": 0.13,
  "tank": 0.07,
  "ship": 0.04,
}
"""Share of the pictures that show each cover, in a long tail."""

_COVERS = tuple(FREQUENCIES)

# The pictures of each split are drawn from a random stream of their own.
_STREAMS = {"train": 0, "test": 1}


def load_rendered_land_cover(
  *, num_train: int = 1200, num_test: int = 400, seed: int = 0
) -> Dataset:
  """Draws a data set of several labels: what covers a piece of land.

  Covers occur independently with the shares of `FREQUENCIES`, rounded to whole
  pictures, except that ships need water. A picture may show none of them, and a
  cover may partly hide another. Shadows of clouds, tracks, bushes and rocks
  look like covers but are not labeled.

  A picture is drawn when it is read, in about four milliseconds. It depends
  only on its labels, its position and the seed.

  Args:
    num_train: Pictures of the pool, at least 25, so that each cover occurs.
    num_test: Pictures of the test split, at least 25.
    seed: Seed of pictures and labels, at least 0.

  Returns:
    The data set; its images are uint8 [64, 64, 3], its labels int32 [examples,
    8], 0 or 1.

  Raises:
    ValueError: If an argument is not an integer or out of its range.
  """
  sizes = {
    "train": check_integer("num_train", num_train, low=25),
    "test": check_integer("num_test", num_test, low=25),
  }
  seed = check_integer("seed", seed, low=0)
  content = repr(("rendered land cover", _VERSION, sizes, seed))
  return Dataset(
    name="rendered land cover",
    class_names=_COVERS,
    train=_split("train", sizes["train"], seed),
    test=_split("test", sizes["test"], seed),
    val=None,
    fingerprint=hashlib.sha256(content.encode()).hexdigest(),
  )


def _rng(seed: int, stream: str, *position: int) -> np.random.Generator:
  """Returns the generator of a picture; without a position, of the labels."""
  entropy = np.random.SeedSequence(
    seed, spawn_key=(_STREAMS[stream], *position)
  )
  return np.random.Generator(np.random.Philox(entropy))


def _draw_labels(num_examples: int, rng: np.random.Generator) -> np.ndarray:
  """Draws labels with exact frequencies, int32 [examples, covers]."""
  labels = np.zeros((num_examples, len(_COVERS)), np.int32)
  for label, cover in enumerate(_COVERS):
    places = np.arange(num_examples)
    if cover == "ship":
      places = np.flatnonzero(labels[:, _COVERS.index("water")])
    count = round(FREQUENCIES[cover] * num_examples)
    labels[rng.permutation(places)[:count], label] = 1
  return labels


def _split(stream: str, num_examples: int, seed: int) -> Split:
  labels = _draw_labels(num_examples, _rng(seed, stream))
  labels.setflags(write=False)

  def read(position: int) -> np.ndarray:
    position = range(num_examples)[position]
    covers = [_COVERS[label] for label in np.flatnonzero(labels[position])]
    return draw_land(covers, _rng(seed, stream, position))

  ids = tuple(f"{stream}/{i:05d}" for i in range(num_examples))
  return Split(ids=ids, labels=labels, read=read)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _RenderedLandCover(Source):
  """Images that are drawn when they are read."""

  preparation: str = "its images are drawn when they are needed"

  def load(self, options: Options) -> Dataset:
    check_no_path(options)
    return load_rendered_land_cover()


register("rendered_land_cover", _RenderedLandCover())
