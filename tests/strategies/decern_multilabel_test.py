"""Tests of decern_jax/strategies/decern_multilabel.py."""

import jax.numpy as jnp
import numpy as np

from decern_jax.distributed.sharding import make_mesh
from decern_jax.ops.anchors import Anchors
from decern_jax.ops.head import LinearHead
from decern_jax.strategies import decern_multilabel
from decern_jax.strategies.selection import select_by_score
from tests.strategies import label_oracle, label_pools, random_pools
from tests.table import each

GAMMAS = {"uncertainty_gamma": 0.5, "diversity_gamma": 0.8}
LABELS = np.random.default_rng(4).integers(0, 2, label_pools.PROBS.shape)
LABELS = np.where(random_pools.LABELED[:, None], LABELS, -1).astype(np.int32)
KERNEL, BIAS = random_pools.PROBLEM.kernel, random_pools.PROBLEM.bias


def make_pool(**options):
  pool = label_pools.make_pool(**options)
  mesh = make_mesh(options.get("num_devices", 1))
  return pool._replace(labels=random_pools.place_padded_labels(LABELS, mesh))


def naive_scores() -> np.ndarray:
  features, probs = label_pools.FEATURES, label_pools.PROBS
  anchors = label_oracle.label_anchors(features, probs, LABELS)
  scores = label_oracle.discrepancy_confusion(
    features, probs, anchors, KERNEL, BIAS
  )
  return np.where(label_pools.CANDIDATES, scores, 0.0)


class TestSelectMultiLabel:
  @each("num_devices", [1, 2, 4, 8])
  def test_matches_naive_scores_beside_rows_that_do_not_count(
    self, key, num_devices
  ):
    pool = make_pool(num_devices=num_devices, garbage=random_pools.GARBAGE)
    found = decern_multilabel.select_multi_label(key, pool, budget=9, **GAMMAS)
    expected = naive_scores()
    scores = np.asarray(found.scores)[: label_pools.ROWS]
    np.testing.assert_allclose(scores, expected, rtol=2e-5)
    features, probs = label_pools.FEATURES, label_pools.PROBS
    anchors = label_oracle.label_anchors(features, probs, LABELS)
    positions = select_by_score(
      key,
      features,
      np.float32(expected),
      Anchors(*map(np.float32, anchors)),
      budget=9,
      valid=label_pools.CANDIDATES,
      **GAMMAS,
    )
    np.testing.assert_array_equal(found.positions, positions)
    random_pools.assert_distinct_candidates(found.positions)

  @each("budget", [1, int(label_pools.CANDIDATES.sum())])
  def test_gives_exactly_the_budget(self, key, budget):
    pool = make_pool(num_devices=8)
    found = decern_multilabel.select_multi_label(
      key, pool, budget=budget, **GAMMAS
    )
    assert found.positions.shape == (budget,)
    random_pools.assert_distinct_candidates(found.positions)

  def test_permuting_labels_changes_nothing(self, key):
    pool = make_pool()
    order = np.random.default_rng(1).permutation(label_pools.CLASSES)
    permuted = pool._replace(
      probs=pool.probs[:, order],
      labels=pool.labels[:, order],
      head=LinearHead(pool.head.kernel[:, order], pool.head.bias[order]),
    )
    found, expected = (
      decern_multilabel.select_multi_label(key, p, budget=9, **GAMMAS)
      for p in (permuted, pool)
    )
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    np.testing.assert_array_equal(found.positions, expected.positions)

  def test_equal_examples_give_distinct_candidates(self, key):
    pool = make_pool()
    pool = pool._replace(
      features=jnp.ones_like(pool.features),
      probs=jnp.full_like(pool.probs, 0.5),
    )
    found = decern_multilabel.select_multi_label(key, pool, budget=9, **GAMMAS)
    random_pools.assert_distinct_candidates(found.positions)
