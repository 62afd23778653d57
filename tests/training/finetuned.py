"""Fine-tunings of tiny images, which several test files share."""

from collections.abc import Iterator
import contextlib
import functools
import itertools
import pathlib
import tempfile

import jax
import numpy as np
import pytest

from decern_jax.data import augmentation
from decern_jax.data.dataset import Split
from decern_jax.distributed.sharding import make_mesh
from decern_jax.training import finetune, learner, rounds
from decern_jax.training.recipe import Recipe
from tests import networks, tiny

NUM_EPOCHS = 3
RECIPE = Recipe(
  num_epochs=NUM_EPOCHS,
  batch_size=8,
  learning_rate=3e-3,
  warmup_epochs=1,
  warmup_learning_rate=1e-4,
  final_learning_rate=1e-4,
)
POOL, NUM_LABELED = 32, 20
STEPS_OF_EPOCH = NUM_LABELED // RECIPE.batch_size
SEED = 5
# A network with batch normalization, and one without.
NARROW, PLAIN = "narrow", "plain"


def make_split() -> Split:
  rng = np.random.default_rng(0)
  labels = np.arange(POOL, dtype=np.int32) % len(tiny.CLASSES)
  images = [tiny.draw(label, rng) for label in labels.tolist()]
  ids = tuple(f"train/{i:02d}.png" for i in range(POOL))
  return Split(ids=ids, labels=labels, read=images.__getitem__)


@functools.cache
def make_setup(name: str = NARROW) -> finetune.Setup:
  """Returns always the same one, so that its programs compile once."""
  use_norm = name == NARROW
  return finetune.Setup(
    backbone=networks.make_backbone(use_norm=use_norm),
    mask=networks.make_mask(("norm", "last"), use_norm=use_norm),
    use_batch_statistics=use_norm,
    num_classes=len(tiny.CLASSES),
    train=make_split(),
    augment=functools.partial(
      augmentation.random_resized_crop_and_flip, image_size=tiny.SIZE
    ),
    recipe=RECIPE,
    mesh=make_mesh(1),
    num_workers=2,
    checkpoint_seconds=0.0,
  )


def make_state(
  round_num: int = 0, num_labeled: int = NUM_LABELED
) -> rounds.RoundState:
  order = np.random.default_rng(0).permutation(POOL)
  labeled_at = np.full(POOL, rounds.NOT_LABELED)
  labeled_at[order[:num_labeled]] = 0
  return rounds.make_state(round_num, labeled_at)


def make_learner(setup, workdir, *, seed=SEED) -> learner.Learner:
  """Makes one that embeds nothing."""
  return finetune.make_learner(
    setup, lambda variables, wanted: {}, seed=seed, workdir=workdir
  )


def fit(setup, workdir, state=None, *, seed=SEED) -> learner.Fit:
  state = make_state() if state is None else state
  return make_learner(setup, workdir, seed=seed).fit(state)


@functools.cache
def fitted(name: str) -> learner.Fit:
  """Returns what an uninterrupted training ends with."""
  with tempfile.TemporaryDirectory() as folder:
    return fit(make_setup(name), folder)


def saved_epochs(workdir: pathlib.Path, round_num: int = 0) -> list[int]:
  folder = workdir / finetune.FOLDER / str(round_num)
  return sorted(int(path.name) // STEPS_OF_EPOCH for path in folder.iterdir())


def assert_same(actual: learner.Fit, expected: learner.Fit) -> None:
  jax.tree.map(np.testing.assert_array_equal, actual, expected)


def assert_close(actual: learner.Fit, expected: learner.Fit) -> None:
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4),
    actual,
    expected,
  )


class Stop(Exception):
  """Stands in for a kill."""


@contextlib.contextmanager
def stopped_before_step(number: int) -> Iterator[None]:
  """Stops the fine-tuning in the block before the step of a number from 0."""
  calls, step = itertools.count(), finetune.train_step

  def step_or_stop(*args, **options):
    if next(calls) == number:
      raise Stop
    return step(*args, **options)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(finetune, "train_step", step_or_stop)
    with pytest.raises(Stop):
      yield
