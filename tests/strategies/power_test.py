"""Tests of decern_jax/strategies/power.py."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from decern_jax.strategies import Selection, bald, entropy, margin
from decern_jax.strategies.power import power
from tests.strategies import random_pools
from tests.table import each

SCORES = np.float32([1.0, 4.0, 0.0, 2.0, 8.0, 100.0, 1.0])
CANDIDATES = np.arange(7) != 5


def select_by(scores, key, pool, *, budget) -> Selection:
  """A strategy whose scores are given."""
  del key, budget
  shape = pool.candidates.shape
  return Selection(None, jnp.zeros(shape).at[: len(scores)].set(scores))


def draw(seed: int, *, beta: float = 1.0, budget: int = 1, num_devices=1):
  pool = random_pools.make_pool(
    num_devices=num_devices,
    labeled=~CANDIDATES,
    candidates=CANDIDATES,
    features=np.zeros((7, 1), np.float32),
    probs=np.zeros((7, 1), np.float32),
  )
  select = power(functools.partial(select_by, SCORES))
  found = select(jax.random.key(seed), pool, budget=budget, power_beta=beta)
  return np.asarray(found.positions)


class TestPower:
  @each("beta", [0.5, 1.0, 2.0])
  def test_draws_in_proportion_to_the_power_of_the_score(self, beta):
    drawn = [draw(seed, beta=beta)[0] for seed in range(400)]
    counts = np.bincount(drawn, minlength=7)
    mass = np.where(CANDIDATES, np.float64(SCORES), 0.0) ** beta
    assert not counts[mass == 0.0].any()
    expected = 400 * mass[mass > 0.0] / mass.sum()
    assert stats.chisquare(counts[mass > 0.0], expected).pvalue > 0.01

  def test_a_high_power_is_the_ranking(self):
    np.testing.assert_array_equal(draw(0, beta=1e6, budget=3), [4, 1, 3])

  def test_no_score_comes_after_any_score(self):
    found = draw(0, budget=6)
    assert found[-1] == 2
    assert sorted(found) == [0, 1, 2, 3, 4, 6]

  def test_is_independent_of_padding(self):
    for seed in range(5):
      np.testing.assert_array_equal(
        draw(seed, budget=5, num_devices=8), draw(seed, budget=5)
      )

  def test_adds_its_option_to_those_of_the_strategy(self):
    parameters = inspect.signature(power(bald.select)).parameters
    expected = ["key", "pool", "budget", "num_dropout_passes", "dropout_rate"]
    assert list(parameters) == [*expected, "power_beta"]
    assert parameters["power_beta"].kind == inspect.Parameter.KEYWORD_ONLY

  @each(
    "select, options",
    [
      (entropy.select, {}),
      (margin.select, {}),
      (bald.select, {"num_dropout_passes": 3, "dropout_rate": 0.5}),
    ],
  )
  def test_scores_differ_from_the_logarithms_by_the_noise_alone(
    self, key, select, options
  ):
    pool = random_pools.make_pool()
    drawn = [
      power(select)(key, pool, budget=9, power_beta=beta, **options)
      for beta in (1.0, 2.0, 1e6)
    ]
    random_pools.assert_distinct_candidates(drawn[0].positions)
    rows = random_pools.CANDIDATES
    first, second, bare = (np.asarray(d.scores)[rows] for d in drawn)
    np.testing.assert_allclose(first - bare, 2 * (second - bare), atol=1e-3)
    assert stats.kstest(first - bare, "gumbel_r").pvalue > 0.01
    base = select(jax.random.split(key)[0], pool, budget=9, **options).scores
    np.testing.assert_allclose(bare, np.log(np.asarray(base)[rows]), atol=1e-4)

  def test_takes_the_multi_label_form_of_a_score(self, key):
    pool = random_pools.make_pool(is_multi_label=True)
    found = power(entropy.select_multi_label)(
      key, pool, budget=9, power_beta=1e6
    )
    expected = entropy.select_multi_label(key, pool, budget=9)
    np.testing.assert_array_equal(found.positions, expected.positions)
