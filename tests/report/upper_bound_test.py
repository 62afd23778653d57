"""Tests of decern_jax/report/upper_bound.py."""

import numpy as np
import pytest

from decern_jax.report import comparison, upper_bound
from tests.report import made_up

BUDGETS = {"selection__initial_budget": 12, "num_rounds": 1}


def write_full(
  folder, accuracies=(0.9, 0.8), *, strategy="random", labels=12, **options
) -> comparison.Comparison:
  """Returns runs of one round on all labels."""
  for seed, accuracy in enumerate(accuracies):
    records = made_up.make_records((accuracy,), num_labeled=(labels,))
    made_up.write_run(
      folder / f"{strategy}{seed}",
      strategy,
      seed,
      records,
      **{**BUDGETS, **options},
    )
  return comparison.collect([folder], options=made_up.OPTIONS)


@pytest.fixture
def runs(tmp_path):
  return made_up.collect(
    tmp_path / "in", made_up.CURVES, selection__initial_budget=None
  )


class TestFindUpperBound:
  def test_is_the_mean_over_seeds(self, runs, tmp_path):
    full = write_full(tmp_path / "full")
    found = upper_bound.find_upper_bound(runs, full)
    assert (found.num_labeled, found.seeds) == (12, [0, 1])
    assert found.accuracy == pytest.approx(0.85)
    assert found.accuracy_deviation == pytest.approx(0.1 / np.sqrt(2))

  def test_one_seed_has_no_deviation(self, runs, tmp_path):
    full = write_full(tmp_path / "full", [0.9])
    found = upper_bound.find_upper_bound(runs, full)
    assert (found.accuracy, found.accuracy_deviation) == (0.9, None)

  def test_rejects_other_settings(self, runs, tmp_path):
    full = write_full(tmp_path / "full", train__scope="all")
    with pytest.raises(ValueError, match="train.scope: 'head' and 'all'$"):
      upper_bound.find_upper_bound(runs, full)

  def test_rejects_other_data(self, runs, tmp_path):
    full = write_full(tmp_path / "full", data={"test": "9 examples def"})
    with pytest.raises(ValueError, match="same data.*\n.*'9 examples def'"):
      upper_bound.find_upper_bound(runs, full)

  def test_rejects_a_part_of_the_labels(self, runs, tmp_path):
    full = write_full(tmp_path / "full", labels=11)
    with pytest.raises(ValueError, match="all 12 labels, got 11"):
      upper_bound.find_upper_bound(runs, full)

  def test_rejects_several_strategies(self, runs, tmp_path):
    write_full(tmp_path / "full")
    full = write_full(tmp_path / "full", strategy="margin")
    with pytest.raises(ValueError, match=r"got \['margin', 'random'\]"):
      upper_bound.find_upper_bound(runs, full)

  def test_rejects_data_that_do_not_tell_their_size(self, tmp_path):
    old = {"data": {"train": "abc"}}
    runs = made_up.collect(
      tmp_path / "in",
      {"random": {1: (0.3, 0.5)}},
      selection__initial_budget=None,
      **old,
    )
    full = write_full(tmp_path / "full", **old)
    with pytest.raises(ValueError, match="size of their pool, .*'abc'"):
      upper_bound.find_upper_bound(runs, full)
