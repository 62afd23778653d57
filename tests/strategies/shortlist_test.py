"""Tests of decern_jax/strategies/shortlist.py."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from decern_jax.distributed.sharding import make_mesh, place_pool
from decern_jax.ops.kmeans import weighted_kmeans
from decern_jax.strategies.shortlist import pick_diverse
from tests import oracle
from tests.strategies import random_pools
from tests.table import each

BUDGET = 9
WANTED = random_pools.CANDIDATES & (np.arange(random_pools.ROWS) % 3 == 0)


def pick(key, wanted, *, candidates=random_pools.CANDIDATES, garbage=0.0):
  pool = random_pools.make_pool(candidates=candidates, garbage=garbage)
  picked = pick_diverse(
    key, pool.features, jnp.asarray(wanted), pool.candidates, budget=BUDGET
  )
  random_pools.assert_distinct_candidates(picked, candidates=candidates)
  return np.asarray(picked)


def naive_pick(key, wanted) -> list[int]:
  """Each center in turn takes the nearest one that is left."""
  points = oracle.normalize(random_pools.PROBLEM.features)
  mesh = make_mesh(1)
  clusters = weighted_kmeans(
    jax.random.split(key)[1],
    place_pool(np.float32(points), mesh),
    place_pool(np.float32(wanted), mesh),
    num_clusters=BUDGET,
  )
  left, picked = set(np.flatnonzero(wanted)), []
  for center in np.float64(clusters.centers):
    distance = {row: ((points[row] - center) ** 2).sum() for row in left}
    picked.append(min(left, key=distance.get))
    left.remove(picked[-1])
  return picked


class TestPickDiverse:
  def test_takes_the_nearest_of_the_shortlist_to_each_center(self, key):
    picked = pick(key, WANTED)
    np.testing.assert_array_equal(picked, naive_pick(key, WANTED))
    assert WANTED[picked].all()

  def test_ignores_rows_that_do_not_count(self, key):
    picked = pick(key, WANTED, garbage=random_pools.GARBAGE)
    np.testing.assert_array_equal(picked, pick(key, WANTED))

  def test_ignores_the_length_of_features(self, key):
    pool = random_pools.make_pool()
    scale = jnp.linspace(0.5, 2.0, len(pool.features))[:, None]
    picked = pick_diverse(
      key,
      pool.features * scale,
      jnp.asarray(WANTED),
      pool.candidates,
      budget=BUDGET,
    )
    assert set(np.asarray(picked)) == set(pick(key, WANTED))

  @each("length", [0, 1, BUDGET - 1, BUDGET])
  def test_takes_the_whole_of_a_short_one(self, key, length):
    wanted = np.flatnonzero(WANTED)[:length]
    mask = np.isin(np.arange(random_pools.ROWS), wanted)
    assert set(wanted) <= set(pick(key, mask))

  def test_takes_all_but_one_candidate(self, key):
    last = np.flatnonzero(random_pools.CANDIDATES)[-BUDGET - 1 :]
    candidates = np.isin(np.arange(random_pools.ROWS), last)
    picked = pick(key, candidates & WANTED, candidates=candidates)
    assert set(np.flatnonzero(candidates & WANTED)) <= set(picked)

  def test_fills_up_at_random(self):
    pool = random_pools.make_pool()
    nothing = jnp.zeros(random_pools.ROWS, bool)
    counts = np.zeros(random_pools.ROWS)
    for seed in range(200):
      picked = pick_diverse(
        jax.random.key(seed),
        pool.features,
        nothing,
        pool.candidates,
        budget=BUDGET,
      )
      counts[np.asarray(picked)] += 1
    assert stats.chisquare(counts[random_pools.CANDIDATES]).pvalue > 0.01
