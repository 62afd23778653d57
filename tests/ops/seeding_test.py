"""Tests of decern_jax/ops/seeding.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from decern_jax.ops import block, seeding
from tests import oracle
from tests.table import each

# Whole numbers: their sums are exact whatever the number of shards.
MASS = oracle.float32([0, 0, 3, 1, 0, 5, 0, 0, 2, 0, 0, 0, 4, 1, 0, 0])


# Under `jax.jit`, with one number of draws, so that it is compiled once.
DRAWS = 4000
jitted_sample = jax.jit(lambda key, mass: seeding.sample_rows(key, mass, DRAWS))


def draw(mass, *, seed=0) -> np.ndarray:
  return np.asarray(jitted_sample(jax.random.key(seed), oracle.float32(mass)))


class TestSampleRows:
  def test_draws_in_proportion_to_mass(self):
    counts = np.bincount(draw(MASS), minlength=len(MASS))
    assert not counts[MASS == 0].any()
    expected = DRAWS * MASS[MASS > 0] / MASS.sum()
    assert scipy.stats.chisquare(counts[MASS > 0], expected).pvalue > 0.01

  def test_finds_the_only_mass(self):
    mass = np.zeros(16, np.float32)
    mass[11] = 1e-20
    np.testing.assert_array_equal(draw(mass), 11)

  def test_no_mass_gives_the_first_row(self):
    np.testing.assert_array_equal(draw(np.zeros(16)), 0)

  def test_is_exact_over_many_magnitudes(self):
    mass = oracle.float32([1e-30, 0.0, 1.0, 0.0, 1e-30, *[0.0] * 11])
    np.testing.assert_array_equal(draw(mass), 2)

  @each("num_devices", [1, 8])
  def test_is_independent_of_shard_count(self, num_devices):
    def sample(mass):
      key = jax.random.key(0)
      return seeding.sample_rows(key, mass, DRAWS, axis_name="pool")

    drawn = oracle.on_shards(sample, num_devices, MASS)
    np.testing.assert_array_equal(drawn, draw(MASS))


@functools.partial(jax.jit, static_argnames=("num_clusters", "block_size"))
def jitted_centers(*args, **options):
  return seeding.greedy_centers(*args, **options)


def greedy_centers(points, weights, num_clusters, *, seed=0, block_size=7):
  return np.asarray(
    jitted_centers(
      jax.random.key(seed),
      jnp.asarray(points, jnp.float32),
      jnp.asarray(weights, jnp.float32),
      num_points=jnp.asarray(np.sum(np.asarray(weights) > 0)),
      num_clusters=num_clusters,
      block_size=block_size,
    )
  )


jitted_trials = jax.jit(seeding.sample_rows, static_argnums=2)


def naive_centers(points, weights, num_clusters, *, seed=0):
  """Greedy k-means++ with all distances at hand, and the same draws."""
  key = jax.random.key(seed)
  first_key, key = jax.random.split(key)
  first = jitted_trials(first_key, weights, 1)[0]
  centers = [points[first]]
  nearest = ((points - centers[0]) ** 2).sum(axis=1)
  for index in range(1, num_clusters):
    mass = oracle.float32(weights * nearest)
    num_trials = 2 + int(np.log(num_clusters))
    drawn = jitted_trials(jax.random.fold_in(key, index), mass, num_trials)
    trials = [
      np.minimum(nearest, ((points - points[row]) ** 2).sum(axis=1))
      for row in np.asarray(drawn)
    ]
    best = np.argmin([(weights * trial).sum() for trial in trials])
    centers.append(points[drawn[best]])
    nearest = trials[best]
  return np.stack(centers)


def is_row_of(rows, points) -> np.ndarray:
  return (rows[:, None] == points[None]).all(axis=-1).any(axis=1)


class TestGreedyCenters:
  def test_matches_naive_loop(self):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(50, 4)).astype(np.float32)
    weights = rng.uniform(0.1, 2.0, size=50).astype(np.float32)
    np.testing.assert_array_equal(
      greedy_centers(points, weights, 9), naive_centers(points, weights, 9)
    )

  def test_takes_one_point_of_each_distant_group(self):
    places = 100.0 * np.random.default_rng(0).normal(size=(9, 4))
    points = places[np.arange(50) % 9]
    for seed in range(5):
      centers = greedy_centers(points, np.ones(50), 9, seed=seed)
      assert len(np.unique(centers, axis=0)) == 9

  def test_points_past_the_last_that_counts_are_never_taken(self):
    points = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    weights = np.where(np.arange(50) < 9, 1.0, 0.0)
    centers = greedy_centers(points, weights, 9)
    assert is_row_of(centers, points[:9]).all()
    assert len(np.unique(centers, axis=0)) == 9

  def test_fewer_points_than_centers_repeat_points_that_count(self):
    # The first shards hold no point that counts.
    points = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    weights = oracle.float32(np.arange(16) >= 13)

    def seed(points, weights):
      order = block.compaction(weights > 0.0)
      return seeding.greedy_centers(
        jax.random.key(0),
        points[order],
        weights[order],
        num_points=jnp.sum(weights > 0.0),
        num_clusters=6,
        block_size=4,
        axis_name="pool",
      )

    centers = np.asarray(oracle.on_shards(seed, 8, points, weights))
    assert is_row_of(centers, points[13:]).all()
