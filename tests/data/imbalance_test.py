"""Tests of decern_jax/data/imbalance.py."""

import numpy as np
import pytest

from decern_jax.data.dataset import Dataset, Split
from decern_jax.data.imbalance import (
  long_tail_indices,
  long_tail_targets,
  thin_to_long_tail,
)
from tests.table import each

RNG = np.random.default_rng(0)
FREQUENCIES = [0.4, 0.7, 0.2, 0.3, 0.5, 0.25]
LABELS = (RNG.random((900, 6)) < FREQUENCIES).astype(np.int32)
SINGLE = RNG.integers(0, 5, 600).astype(np.int32)


def make_dataset(labels: np.ndarray) -> Dataset:
  def part(name, labels):
    ids = tuple(f"{name}/{i}" for i in range(len(labels)))
    return Split(ids, labels, lambda i: np.full((1, 1, 3), i % 256, np.uint8))

  num_classes = labels.shape[1] if labels.ndim == 2 else labels.max() + 1
  names = tuple(map(str, range(num_classes)))
  test = part("test", labels[:9])
  return Dataset("made up", names, part("train", labels), test, None, "f")


class TestLongTailTargets:
  def test_falls_exponentially(self):
    targets = long_tail_targets(np.array([10, 1000, 500]), ratio=100.0)
    assert targets.tolist() == [10, 1000, 100]

  def test_matches_the_formula(self):
    counts = LABELS.sum(axis=0)
    order = sorted(range(6), key=lambda c: -counts[c])
    targets = long_tail_targets(counts, ratio=50.0)
    for rank, label in enumerate(order):
      assert targets[label] == round(counts.max() * 50.0 ** (-rank / 5))

  def test_ratio_of_one_asks_for_no_fewer_than_the_largest(self):
    targets = long_tail_targets(np.array([3, 9, 4]), ratio=1.0)
    assert targets.tolist() == [9, 9, 9]

  def test_no_label_vanishes(self):
    assert long_tail_targets(np.array([5, 4]), ratio=1e9).tolist() == [5, 1]

  @each("ratio", [0.5, -1.0, np.nan, np.inf])
  def test_rejects_ratio_outside_its_range(self, ratio):
    with pytest.raises(ValueError, match=f"`ratio` >= 1, got {ratio}"):
      long_tail_targets(np.array([5, 4]), ratio=ratio)

  def test_rejects_a_label_without_positive(self):
    with pytest.raises(ValueError, match="none of label 1"):
      long_tail_targets(np.array([5, 0]), ratio=2.0)


class TestLongTailPositions:
  @each("ratio", [1.0, 10.0, 50.0, 200.0])
  @each("seed", [0, 1])
  def test_counts_are_exactly_as_documented(self, ratio, seed):
    kept = long_tail_indices(LABELS, ratio=ratio, seed=seed)
    counts = LABELS.sum(axis=0)
    targets = long_tail_targets(counts, ratio=ratio)
    found = LABELS[kept].sum(axis=0)
    rarer = np.zeros(len(kept), bool)
    for label in np.argsort(targets, kind="stable"):
      also_rarer = (LABELS[kept][:, label] == 1) & rarer
      assert found[label] <= max(targets[label], also_rarer.sum())
      rarer |= LABELS[kept][:, label] == 1
    # The rarest one has no other to go by.
    last = targets.argmin()
    assert found[last] == min(targets[last], counts[last])

  def test_single_labels_end_with_exactly_their_targets(self):
    onehot = SINGLE[:, None] == np.arange(5)
    targets = long_tail_targets(onehot.sum(axis=0), ratio=30.0)
    kept = long_tail_indices(onehot, ratio=30.0, seed=0)
    found = onehot[kept].sum(axis=0)
    np.testing.assert_array_equal(found, np.minimum(targets, onehot.sum(0)))

  def test_labels_that_never_meet_end_with_exactly_their_targets(self):
    labels = np.zeros((300, 4), int)
    labels[np.arange(300), np.arange(300) % 3] = 1
    labels[::3, 3] = 1  # but the last, which comes with the first alone
    targets = long_tail_targets(labels.sum(axis=0), ratio=20.0)
    kept = long_tail_indices(labels, ratio=20.0, seed=0)
    found = labels[kept].sum(axis=0)
    np.testing.assert_array_equal(found[1:], targets[1:])
    assert found[0] == found[3]

  def test_examples_without_labels_stay(self):
    kept = long_tail_indices(LABELS, ratio=200.0, seed=0)
    assert set(np.flatnonzero(~LABELS.any(axis=1))) <= set(kept)

  def test_ratio_of_one_keeps_all(self):
    kept = long_tail_indices(LABELS, ratio=1.0, seed=0)
    np.testing.assert_array_equal(kept, np.arange(len(LABELS)))

  def test_imbalance_grows_with_the_ratio(self):
    spreads = []
    for ratio in (1.0, 10.0, 50.0):
      kept = long_tail_indices(LABELS, ratio=ratio, seed=0)
      counts = LABELS[kept].sum(axis=0)
      spreads.append(counts.max() / counts.min())
    assert spreads == sorted(spreads)
    assert spreads[-1] > 4 * spreads[0]

  def test_is_a_function_of_its_seed(self):
    first, again, other = (
      tuple(long_tail_indices(LABELS, ratio=50.0, seed=seed))
      for seed in (0, 0, 1)
    )
    assert first == again != other


class TestThinToLongTail:
  @each("labels", [LABELS, SINGLE])
  def test_pool_keeps_what_belongs_together(self, labels):
    dataset = make_dataset(labels)
    thinned = thin_to_long_tail(dataset, ratio=50.0, seed=0)
    train = thinned.train
    assert 0 < len(train.ids) < len(labels)
    assert len(train.labels) == len(train.ids)
    for position in (0, 5, len(train.ids) - 1):
      origin = int(train.ids[position].removeprefix("train/"))
      np.testing.assert_array_equal(train.labels[position], labels[origin])
      assert (train.read(position) == origin % 256).all()

  def test_order_stays(self):
    train = thin_to_long_tail(make_dataset(SINGLE), ratio=9.0, seed=0).train
    origins = [int(name.removeprefix("train/")) for name in train.ids]
    assert origins == sorted(origins)

  def test_other_parts_stay(self):
    dataset = make_dataset(LABELS)
    thinned = thin_to_long_tail(dataset, ratio=50.0, seed=0)
    assert thinned.test is dataset.test
    assert thinned.class_names == dataset.class_names

  def test_fingerprint_tells_what_is_kept(self):
    dataset = make_dataset(LABELS)
    prints = [
      thin_to_long_tail(dataset, ratio=ratio, seed=seed).fingerprint
      for ratio, seed in ((50.0, 0), (50.0, 0), (50.0, 1), (20.0, 0))
    ]
    assert prints[0] == prints[1]
    assert len({*prints, dataset.fingerprint}) == 4
