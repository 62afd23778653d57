"""The rendered data set: butterflies that differ only in small parts."""

from collections.abc import Sequence
import dataclasses
import hashlib
import itertools
import os

import numpy as np

from decern_jax.data.dataset import Dataset, Split
from decern_jax.data.registry import Options, Source, register
from decern_jax.data.rendering.butterfly import PARTS, Kind
from decern_jax.data.rendering.scene import draw_scene
from decern_jax.io.validation import check_integer

# Part of the fingerprint: raise it with every change that alters a picture.
_VERSION = 2

MAX_CLASSES = 64

# Coprime to the 192 kinds, so that the steps visit each of them once. With this
# step, nearly all of the first three dozen kinds have a twin that differs in
# one part, and all values of a part are about equally frequent.
_STEP = 79

# The rarest class of the pool has this share fewer examples than the mean, and
# the most frequent one this share more.
_IMBALANCE = 0.4

# The pictures of each split are drawn from a random stream of their own.
_STREAMS = {"train": 0, "test": 1, "pretrain/train": 2, "pretrain/test": 3}


def _ordered_kinds() -> tuple[Kind, ...]:
  kinds = [Kind(*parts) for parts in itertools.product(*PARTS.values())]
  return tuple(kinds[i * _STEP % len(kinds)] for i in range(len(kinds)))


_KINDS = _ordered_kinds()


def rendered_classes() -> tuple[Kind, ...]:
  """Returns the kinds that `load_rendered` takes its classes from, in order."""
  return _KINDS[:MAX_CLASSES]


def pretraining_classes() -> tuple[Kind, ...]:
  """Returns the other kinds, which `load_rendered` never draws."""
  return _KINDS[MAX_CLASSES:]


def _rng(seed: int, stream: str, *position: int) -> np.random.Generator:
  """Returns the generator of a picture; without a position, of the order."""
  entropy = np.random.SeedSequence(
    seed, spawn_key=(_STREAMS[stream], *position)
  )
  return np.random.Generator(np.random.Philox(entropy))


def _shuffled_labels(
  num_classes: int, mean_size: int, imbalance: float, rng: np.random.Generator
) -> np.ndarray:
  """Returns labels of classes whose sizes are spread evenly around the mean."""
  # Rounding half to even keeps the symmetry and therefore the mean.
  spread = np.rint(imbalance * mean_size * np.linspace(-1.0, 1.0, num_classes))
  sizes = mean_size + rng.permutation(spread.astype(np.int64))
  return rng.permutation(
    np.repeat(np.arange(num_classes, dtype=np.int32), sizes)
  )


def _split(
  kinds: Sequence[Kind],
  mean_size: int,
  imbalance: float,
  *,
  stream: str,
  seed: int,
) -> Split:
  labels = _shuffled_labels(
    len(kinds), mean_size, imbalance, _rng(seed, stream)
  )
  labels.setflags(write=False)

  def read(position: int) -> np.ndarray:
    position = range(len(labels))[position]
    return draw_scene(kinds[labels[position]], _rng(seed, stream, position))

  ids = tuple(f"{stream}/{i:05d}" for i in range(len(labels)))
  return Split(ids=ids, labels=labels, read=read)


def _load(
  name: str,
  kinds: Sequence[Kind],
  prefix: str,
  *,
  num_classes: int,
  train_per_class: int,
  test_per_class: int,
  seed: int,
) -> Dataset:
  num_classes = check_integer(
    "num_classes", num_classes, low=2, high=len(kinds)
  )
  train_per_class = check_integer("train_per_class", train_per_class, low=1)
  test_per_class = check_integer("test_per_class", test_per_class, low=1)
  seed = check_integer("seed", seed, low=0)
  arguments = num_classes, train_per_class, test_per_class, seed
  digest = hashlib.sha256(repr((name, _VERSION, arguments)).encode())
  kinds = kinds[:num_classes]
  return Dataset(
    name=name,
    class_names=tuple(" ".join(kind) for kind in kinds),
    train=_split(
      kinds, train_per_class, _IMBALANCE, stream=f"{prefix}train", seed=seed
    ),
    test=_split(kinds, test_per_class, 0.0, stream=f"{prefix}test", seed=seed),
    val=None,
    fingerprint=digest.hexdigest(),
  )


def load_rendered(
  *,
  num_classes: int = 36,
  train_per_class: int = 50,
  test_per_class: int = 25,
  seed: int = 0,
) -> Dataset:
  """Draws a fine-grained data set: butterflies in a garden.

  All classes share one body plan and differ in four small parts: the number of
  bars and the tint of the tip on the forewing, the eye and the hem on the
  hindwing. For most classes there is another that differs in only one part.
  Pose, wing color, specks, the tint near the body, background, light, blur,
  noise and a leaf in front of one side do not depend on the class.

  A picture is drawn when it is read, in one or two milliseconds. It depends
  only on its class, its position and the seed.

  Args:
    num_classes: Number of classes, in [2, MAX_CLASSES]. A larger number adds
      classes and keeps the others.
    train_per_class: Mean size of a class in the pool, at least 1.  Sizes are
      spread evenly within 40 percent of it.
    test_per_class: Size of every class in the test split, at least 1.
    seed: Seed of pictures, order and class sizes, at least 0.  Another seed
      gives other pictures of the same classes.

  Returns:
    The data set; its images are uint8 [96, 96, 3].

  Raises:
    ValueError: If an argument is not an integer or out of its range.
  """
  return _load(
    "rendered butterflies",
    rendered_classes(),
    "",
    num_classes=num_classes,
    train_per_class=train_per_class,
    test_per_class=test_per_class,
    seed=seed,
  )


def load_pretraining(
  *,
  num_classes: int = 128,
  train_per_class: int = 50,
  test_per_class: int = 25,
  seed: int = 0,
) -> Dataset:
  """Draws a similar data set of other classes, for pre-training.

  Args:
    num_classes: Number of classes, in [2, 128]: the first ones of
      `pretraining_classes()`.
    train_per_class: As for `load_rendered`.
    test_per_class: As for `load_rendered`.
    seed: As for `load_rendered`.

  Returns:
    A data set that has no class and no picture in common with `load_rendered`.

  Raises:
    ValueError: If an argument is not an integer or out of its range.
  """
  return _load(
    "rendered butterflies for pre-training",
    pretraining_classes(),
    "pretrain/",
    num_classes=num_classes,
    train_per_class=train_per_class,
    test_per_class=test_per_class,
    seed=seed,
  )


def check_no_path(options: Options) -> None:
  """Refuses a path, because rendered images are not in files.

  Raises:
    ValueError: If there is a path.
  """
  if options.path is not None:
    raise ValueError(
      "Expected no `path`, as rendered images are in no file, "
      f"got {os.fspath(options.path)!r}. Leave out `config.dataset.path`."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Rendered(Source):
  """Images that are drawn when they are read."""

  preparation: str = "its images are drawn when they are needed"

  def load(self, options: Options) -> Dataset:
    check_no_path(options)
    return load_rendered()


register("rendered", _Rendered())
