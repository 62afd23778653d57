"""Tests of decern_jax/strategies/decern.py."""

import numpy as np

from decern_jax import Anchors, select_decern
from decern_jax.strategies import decern
from tests import oracle
from tests.strategies import pools
from tests.table import each


def labeled_anchors() -> Anchors:
  """The anchors of the examples of the pool that are labeled."""
  rows = pools.LABELED
  found = oracle.class_anchors(
    pools.PROBLEM.features[rows],
    pools.PROBLEM.probs[rows],
    pools.LABELS[rows],
    num_classes=5,
  )
  return Anchors(*(anchor.astype(np.float32) for anchor in found))


class TestSelect:
  options = {"uncertainty_gamma": 0.5, "diversity_gamma": 0.8}

  def test_scores_match_naive_loop(self, key):
    selection = decern.select(key, pools.make_pool(), budget=5, **self.options)
    rows = pools.LABELED
    expected = oracle.discrepancy_confusion(
      pools.PROBLEM._replace(
        labeled_features=pools.PROBLEM.features[rows],
        labeled_probs=pools.PROBLEM.probs[rows],
        labels=pools.LABELS[rows],
      )
    )
    np.testing.assert_allclose(
      selection.scores, np.where(rows, 0.0, expected), rtol=1e-5
    )

  @each(
    "options",
    [
      {"uncertainty_gamma": 0.0, "diversity_gamma": 0.0},
      {"uncertainty_gamma": 0.0, "diversity_gamma": 1.0},
      {"uncertainty_gamma": 9.0, "diversity_gamma": 0.8},
      {"uncertainty_gamma": -9.0, "diversity_gamma": 0.8},
    ],
  )
  def test_is_select_decern_with_the_anchors_of_the_labels(self, key, options):
    pool = pools.make_pool()
    expected = select_decern(
      key,
      pool.features,
      pool.probs,
      labeled_anchors(),
      pool.head,
      budget=5,
      valid=pool.candidates,
      **options,
    )
    found = decern.select(key, pool, budget=5, **options).positions
    np.testing.assert_array_equal(found, expected)

  def test_depends_on_its_options(self, key):
    pool = pools.make_pool()
    options = [self.options]
    options += [{**self.options, "uncertainty_gamma": g} for g in (-9.0, 9.0)]
    options += [{**self.options, "diversity_gamma": g} for g in (0.0, 1.0)]
    found = {
      tuple(np.asarray(decern.select(key, pool, budget=5, **o).positions))
      for o in options
    }
    assert len(found) > 2
