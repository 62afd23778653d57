"""Tests of decern_jax/training/learner.py."""

import jax
import numpy as np
import pytest

from decern_jax.distributed.sharding import make_mesh
from decern_jax.training import learner
from tests.table import each
from tests.tasks import DIM, POOL, draw, make_split


class TestPlace:
  def test_pads_to_equal_shards_and_says_where(self):
    rows, labels = draw(POOL, 1)
    part = learner.place(rows, make_split("train", labels), make_mesh(8))
    padded = 64
    assert part.features.shape == (padded, DIM)
    assert part.labels.shape == part.valid.shape == (padded,)
    np.testing.assert_array_equal(np.asarray(part.features)[:POOL], rows)
    np.testing.assert_array_equal(part.labels[:POOL], labels)
    assert np.asarray(part.valid).tolist() == [True] * POOL + [False] * 3

  def test_splits_rows_over_the_mesh(self):
    rows, labels = draw(POOL, 1)
    part = learner.place(rows, make_split("train", labels), make_mesh(8))
    for array in (part.features, part.labels, part.valid):
      assert isinstance(array, jax.Array)
      assert len(array.sharding.device_set) == 8
      assert array.addressable_shards[0].data.shape[0] == 8

  def test_keeps_classes_as_int32(self):
    rows, labels = draw(POOL, 1)
    split = make_split("train", labels.astype(np.int64))
    part = learner.place(rows, split, make_mesh(1))
    assert part.labels.dtype == np.int32

  @each("value", [np.nan, np.inf, -np.inf])
  def test_rejects_features_that_are_not_finite(self, value):
    rows, labels = draw(POOL, 1)
    rows[[7, 9], 3] = value
    with pytest.raises(ValueError, match=r"for 2 examples.*'train/007\.jpg'"):
      learner.place(rows, make_split("train", labels), make_mesh(8))


class TestCheckLosses:
  def test_accepts_finite_losses(self):
    learner.check_losses(np.array([3.0, 0.0, 1e30], np.float32), 4)

  @each("value", [np.nan, np.inf])
  def test_names_the_first_bad_epoch_and_the_round(self, value):
    losses = np.array([0.5, 0.25, value, 0.1, value], np.float32)
    message = rf"became {value} in epoch 2 of round 7; .*learning_rate"
    with pytest.raises(RuntimeError, match=message):
      learner.check_losses(losses, 7)
