"""Tests of decern_jax/report/pairs.py."""

import pytest

from decern_jax.report import paired, pairs

AREAS = {
  "decern": {1: 0.5, 11: 0.45, 111: 0.65},
  "margin": {1: 0.45, 11: 0.45, 111: 0.55},
  "random": {1: 0.4, 11: 0.3, 111: 0.5},
}


class TestComparePairs:
  def test_has_all_pairs_in_order(self):
    found = pairs.compare_pairs(["margin", "random", "decern"], AREAS)
    assert [(pair.first, pair.second) for pair in found] == [
      ("margin", "random"),
      ("margin", "decern"),
      ("random", "decern"),
    ]

  def test_corrects_over_all_pairs(self):
    found = pairs.compare_pairs([*AREAS], AREAS)
    alone = [
      paired.paired_difference(AREAS[pair.first], AREAS[pair.second])
      for pair in found
    ]
    assert [pair.difference for pair in found] == [one.mean for one in alone]
    assert [pair.t_test_p for pair in found] == [one.t_test_p for one in alone]
    corrected = paired.holm([one.t_test_p for one in alone])
    assert [pair.holm_p for pair in found] == corrected
    assert max(corrected) > max(one.t_test_p for one in alone) / 2

  def test_pairs_without_a_test_do_not_count(self):
    areas = {**AREAS, "entropy": {1: 0.2}}
    expected = pairs.compare_pairs([*AREAS], AREAS)
    found = pairs.compare_pairs([*areas], areas)
    assert [pair for pair in found if pair.second != "entropy"] == expected
    untested = [pair for pair in found if pair.second == "entropy"]
    assert [pair.holm_p for pair in untested] == [None] * 3
    assert untested[0].difference == pytest.approx(0.3)

  def test_one_strategy_has_no_pair(self):
    assert pairs.compare_pairs(["random"], AREAS) == []


class TestPairResult:
  def test_flipping_changes_the_signs(self):
    pair = pairs.compare_pairs(["decern", "random"], AREAS)[0]
    flipped = pair.flipped()
    assert (flipped.first, flipped.second) == ("random", "decern")
    assert flipped.difference == -pair.difference
    assert (flipped.low, flipped.high) == (-pair.high, -pair.low)
    assert flipped.holm_p == pair.holm_p
    assert flipped.flipped() == pair

  def test_flipping_keeps_what_is_unknown(self):
    areas = {"decern": {1: 0.5}, "random": {2: 0.5}}
    pair = pairs.compare_pairs(["decern", "random"], areas)[0]
    assert pair.flipped().flipped() == pair
    assert pair.flipped().low is None
