"""Power sampling: any score, drawn from instead of ranked by."""

from collections.abc import Callable
import inspect

import jax
import jax.numpy as jnp

from decern_jax.ops.keys import uniform_at
from decern_jax.strategies.pool import Pool, Selection, take_highest

# Stands for a score of 0 in the logarithm, and for a draw of 0.
SMALLEST = float(jnp.finfo(jnp.float32).tiny)


def power(select: Callable[..., Selection]) -> Callable[..., Selection]:
  """Makes a strategy that ranks by a score draw by its power instead.

  Examples are drawn without replacement with probabilities in proportion to
  score^beta, as the highest of log score + noise / beta with independent
  standard Gumbel noise. An infinite beta would be the strategy itself, beta =
  0 uniform. A score of 0 counts as the smallest positive number.

  Args:
    select: The `select` of a strategy with scores of at least 0.

  Returns:
    A `select` with the same options and `power_beta`, a float above 0, after
    them. Its scores are log score + noise / beta.

  References:
    Kirsch, Farquhar, Atighehchian, Jesson, Branchaud-Charron and Gal,
    "Stochastic Batch Acquisition: A Simple Baseline for Deep Active Learning",
    TMLR 2023, https://arxiv.org/abs/2106.12059.
  """

  def draw(
    key: jax.Array, pool: Pool, *, budget: int, power_beta: float, **options
  ) -> Selection:
    """Selects by score^beta, at random."""
    key, noise_key = jax.random.split(key)
    scores = select(key, pool, budget=budget, **options).scores
    scores = _perturb(noise_key, scores, power_beta)
    positions = take_highest(scores, pool.candidates, budget=budget)
    return Selection(positions, scores)

  signature = inspect.signature(select)
  beta = inspect.signature(draw).parameters["power_beta"]
  draw.__signature__ = signature.replace(
    parameters=[*signature.parameters.values(), beta]
  )
  return draw


@jax.jit
def _perturb(key, scores, beta):
  """Returns log score + noise / beta, finite where the score is."""
  uniform = jnp.maximum(uniform_at(key, jnp.arange(len(scores))), SMALLEST)
  noise = -jnp.log(-jnp.log(uniform))
  return jnp.log(jnp.maximum(scores, SMALLEST)) + noise / beta
