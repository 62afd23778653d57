"""Tests of decern_jax/report/summary.py."""

from typing import Any

import numpy as np
import pytest

from decern_jax.report import comparison, statistics, summary
from tests.report import made_up
from tests.table import each


def summarize(folder, curves=None, **settings) -> Any:
  runs = made_up.collect(folder, curves or made_up.CURVES, **settings)
  return summary.summarize(runs)


def result(found: summary.Summary, name: str) -> Any:
  return next(one for one in found.strategies if one.name == name)


def summarize_records(folder, *found) -> summary.StrategyResult:
  """Returns the result of runs of one strategy, given by their records."""
  for seed, one in enumerate(found):
    made_up.write_run(folder / str(seed), "random", seed, one)
  runs = comparison.collect([folder], options=made_up.OPTIONS)
  return summary.summarize(runs).strategies[0]


class TestSummarize:
  def test_puts_the_largest_area_first(self, tmp_path):
    found = summarize(tmp_path)
    names = [each.name for each in found.strategies]
    assert names == ["decern", "margin", "random"]
    firsts = [(pair.first, pair.second) for pair in found.pairs]
    assert firsts == [
      ("decern", "margin"),
      ("decern", "random"),
      ("margin", "random"),
    ]

  def test_has_areas_by_seed(self, tmp_path):
    decern = result(summarize(tmp_path), "decern")
    assert decern.aubc_by_seed == pytest.approx({1: 0.5, 11: 0.45, 111: 0.65})
    values = [0.5, 0.45, 0.65]
    assert decern.aubc == pytest.approx(np.mean(values))
    assert decern.aubc_deviation == pytest.approx(np.std(values, ddof=1))

  def test_has_accuracies_per_round(self, tmp_path):
    random = result(summarize(tmp_path), "random")
    np.testing.assert_allclose(random.accuracy, [0.3, 0.5])
    np.testing.assert_allclose(random.accuracy_deviation, [0.1, 0.1])
    np.testing.assert_allclose(random.balanced_accuracy, [0.2, 0.4])

  def test_one_seed_has_no_deviation(self, tmp_path):
    random = result(summarize(tmp_path, {"random": {1: (0.3, 0.5)}}), "random")
    assert random.accuracy_deviation is random.aubc_deviation is None

  def test_old_records_have_no_balanced_accuracy(self, tmp_path):
    found = made_up.make_records((0.3, 0.5))
    found[1]["test"].pop("balanced_accuracy")
    assert summarize_records(tmp_path, found).balanced_accuracy is None

  def test_has_the_pairs_differences(self, tmp_path):
    pair = summarize(tmp_path).pair("decern", "margin")
    assert pair.num_seeds == 3
    assert pair.difference == pytest.approx((0.05 + 0.0 + 0.1) / 3)

  def test_has_the_penalties(self, tmp_path):
    found = summarize(tmp_path)
    names = [each.name for each in found.strategies]
    matrix = statistics.penalty_matrix({n: made_up.CURVES[n] for n in names})
    np.testing.assert_array_equal(found.penalty_matrix, matrix)
    means = [each.penalty for each in found.strategies]
    assert means == statistics.column_means(matrix)
    assert max(means) > 0

  def test_has_no_penalty_without_a_test(self, tmp_path):
    curves = {"random": {1: (0.3, 0.5)}, "margin": {1: (0.3, 0.6)}}
    found = summarize(tmp_path, curves)
    assert found.penalty_matrix == [[0.0, None], [None, 0.0]]
    assert [each.penalty for each in found.strategies] == [None, None]

  def test_keeps_what_was_compared(self, tmp_path):
    found = summarize(tmp_path)
    assert found.settings["model.name"] == "small_cnn"
    assert found.data["class_names"] == list(made_up.CLASSES)
    assert found.num_labeled == [10, 20]
    assert found.seeds == [1, 11, 111]


class TestUpperBound:
  def test_is_unknown_without_such_runs(self, tmp_path):
    assert summarize(tmp_path).upper_bound is None

  def test_is_that_of_runs_on_all_labels(self, tmp_path):
    runs = made_up.collect(tmp_path / "in", made_up.CURVES)
    records = made_up.make_records((0.9,), num_labeled=(12,))
    made_up.write_run(tmp_path / "full", "random", 1, records)
    full = comparison.collect([tmp_path / "full"], options=made_up.OPTIONS)
    bound = summary.summarize(runs, full_data=full).upper_bound
    assert bound is not None
    assert (bound.num_labeled, bound.accuracy) == (12, 0.9)


class TestLabelsNeeded:
  def test_are_on_the_mean_curve(self, tmp_path):
    found = summarize(tmp_path)
    # random ends at 0.5; the others start at 0.3.
    decern, margin = result(found, "decern"), result(found, "margin")
    expected = 10 + 10 * 0.2 / (2.3 / 3 - 0.3)
    assert decern.labels_needed == pytest.approx(expected)
    assert decern.labels_saved == pytest.approx(20 - expected)
    assert margin.labels_needed == pytest.approx(
      10 + 10 * 0.2 / (2.0 / 3 - 0.3)
    )

  def test_of_random_are_all(self, tmp_path):
    random = result(summarize(tmp_path), "random")
    assert random.labels_needed == pytest.approx(20.0)
    assert random.labels_saved == pytest.approx(0.0)

  def test_are_unknown_where_not_reached(self, tmp_path):
    curves = {"random": {1: (0.3, 0.5)}, "margin": {1: (0.3, 0.4)}}
    margin = result(summarize(tmp_path, curves), "margin")
    assert margin.labels_needed is margin.labels_saved is None

  def test_are_unknown_without_random(self, tmp_path):
    found = summarize(tmp_path, {"margin": {1: (0.3, 0.5)}})
    assert found.reference is None
    assert result(found, "margin").labels_needed is None

  def test_are_on_common_seeds(self, tmp_path):
    curves = {
      "random": {1: (0.3, 0.5), 2: (0.9, 1.0)},
      "margin": {1: (0.3, 0.7), 3: (0.0, 0.1)},
    }
    margin = result(summarize(tmp_path, curves), "margin")
    assert margin.labels_needed == pytest.approx(15.0)


class TestCosts:
  def test_seconds_are_means_over_rounds(self, tmp_path):
    random = summarize_records(
      tmp_path,
      made_up.make_records((0.3, 0.4, 0.5), select_seconds=1.0),
      made_up.make_records((0.3, 0.4, 0.5), select_seconds=3.0),
    )
    # The last round selects nothing, and does not count.
    assert random.seconds == pytest.approx({"train": 2.0, "select": 2.0})


class TestIsFrozen:
  @each(
    "scope, model, is_frozen",
    [
      ("head", "vit_small16", True),
      ("published", "vit_small16", False),
      ("all", "vit_small16", False),
      ("published", "dinov2_small14", True),
      ("all", "dinov2_small14", False),
      ("published", "unknown", False),
    ],
  )
  def test_depends_on_what_trains(self, tmp_path, scope, model, is_frozen):
    found = summarize(tmp_path, train__scope=scope, model__name=model)
    assert found.is_frozen == is_frozen


class TestPair:
  def test_is_in_the_order_asked_for(self, tmp_path):
    found = summarize(tmp_path)
    pair = found.pair("random", "decern")
    assert (pair.first, pair.second) == ("random", "decern")
    assert pair.difference < 0
    assert pair.flipped() == found.pair("decern", "random")

  def test_rejects_unknown_strategies(self, tmp_path):
    with pytest.raises(ValueError, match="'decern' and 'nothing'"):
      summarize(tmp_path).pair("decern", "nothing")


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
    found = summary.find_upper_bound(runs, full)
    assert (found.num_labeled, found.seeds) == (12, [0, 1])
    assert found.accuracy == pytest.approx(0.85)
    assert found.accuracy_deviation == pytest.approx(0.1 / np.sqrt(2))

  def test_one_seed_has_no_deviation(self, runs, tmp_path):
    full = write_full(tmp_path / "full", [0.9])
    found = summary.find_upper_bound(runs, full)
    assert (found.accuracy, found.accuracy_deviation) == (0.9, None)

  def test_rejects_other_settings(self, runs, tmp_path):
    full = write_full(tmp_path / "full", train__scope="all")
    with pytest.raises(ValueError, match="train.scope: 'head' and 'all'$"):
      summary.find_upper_bound(runs, full)

  def test_rejects_other_data(self, runs, tmp_path):
    full = write_full(tmp_path / "full", data={"test": "9 examples def"})
    with pytest.raises(ValueError, match="same data.*\n.*'9 examples def'"):
      summary.find_upper_bound(runs, full)

  def test_rejects_a_part_of_the_labels(self, runs, tmp_path):
    full = write_full(tmp_path / "full", labels=11)
    with pytest.raises(ValueError, match="all 12 labels, got 11"):
      summary.find_upper_bound(runs, full)

  def test_rejects_several_strategies(self, runs, tmp_path):
    write_full(tmp_path / "full")
    full = write_full(tmp_path / "full", strategy="margin")
    with pytest.raises(ValueError, match=r"got \['margin', 'random'\]"):
      summary.find_upper_bound(runs, full)
