"""BALD: the examples about which draws of the model disagree the most."""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from decern_jax.ops import uncertainty
from decern_jax.ops.head import LinearHead, logits
from decern_jax.strategies.base import (
  Option,
  Pool,
  Selection,
  Strategy,
  register,
)
from decern_jax.strategies.pick import POWER_BETA, power, take_highest

OPTIONS = (
  Option(
    "num_dropout_passes", 10, "BALD: passes, each with its own dropout.", low=2
  ),
  Option(
    "dropout_rate",
    0.5,
    "BALD: probability of dropping a feature in a pass.",
    low=1e-6,
    high=1 - 1e-6,
  ),
)


def select(
  key: Key[Array, ""],
  pool: Pool,
  *,
  budget: int,
  num_dropout_passes: int,
  dropout_rate: float,
) -> Selection:
  """Selects where predictions under dropout have the most mutual information.

  With p_k the prediction of pass k and H the entropy, the score is

    H(mean over k of p_k) - mean over k of H(p_k).

  The dropout acts on the features before the head. A pass drops the same
  features for all examples: it is one draw of the head's parameters, as in the
  derivation of the score.

  Returns:
    The selection; scores are the mutual informations, in nats.

  References:
    Houlsby, Huszár, Ghahramani and Lengyel, "Bayesian Active Learning for
    Classification and Preference Learning", https://arxiv.org/abs/1112.5745.
    Gal, Islam and Ghahramani, "Deep Bayesian Active Learning with Image Data",
    ICML 2017, https://arxiv.org/abs/1703.02910.
  """
  scores = _mutual_information(
    key,
    pool.features,
    pool.head,
    dropout_rate,
    num_passes=num_dropout_passes,
    predict=jax.nn.softmax,
    entropy=uncertainty.entropy,
  )
  return Selection(take_highest(scores, pool.candidates, budget=budget), scores)


def select_multi_label(
  key: Key[Array, ""],
  pool: Pool,
  *,
  budget: int,
  num_dropout_passes: int,
  dropout_rate: float,
) -> Selection:
  """Selects by the sum over labels of their mutual informations.

  Returns:
    The selection; scores are the sums, in nats.
  """
  scores = _mutual_information(
    key,
    pool.features,
    pool.head,
    dropout_rate,
    num_passes=num_dropout_passes,
    predict=jax.nn.sigmoid,
    entropy=uncertainty.binary_entropy,
  )
  return Selection(take_highest(scores, pool.candidates, budget=budget), scores)


@functools.partial(
  jax.jit, static_argnames=("num_passes", "predict", "entropy")
)
def _mutual_information(
  key: Key[Array, ""],
  features: Float[Array, "pool dim"],
  head: LinearHead,
  rate: float,
  *,
  num_passes: int,
  predict: Callable[[jax.Array], jax.Array],
  entropy: Callable[[jax.Array], jax.Array],
) -> Float[Array, " pool"]:
  """Returns H(mean of the passes) - mean of H(pass), at least 0."""

  def add_pass(index, sums):
    thinned = _drop_features(jax.random.fold_in(key, index), head, rate)
    probs = predict(logits(thinned, features))
    return sums[0] + probs, sums[1] + entropy(probs)

  pool, classes = len(features), len(head.bias)
  zeros = (jnp.zeros((pool, classes)), jnp.zeros(pool))
  probs, entropies = jax.lax.fori_loop(0, num_passes, add_pass, zeros)
  # Rounding may make it negative where all passes agree.
  gain = entropy(probs / num_passes) - entropies / num_passes
  return jnp.maximum(gain, 0.0)


def _drop_features(key, head: LinearHead, rate) -> LinearHead:
  """Returns the head with random features dropped, the others scaled up."""
  keeps = jax.random.bernoulli(key, 1.0 - rate, (len(head.kernel), 1))
  return head._replace(kernel=jnp.where(keeps, head.kernel / (1.0 - rate), 0.0))


register(
  Strategy(
    "bald",
    select,
    select_multi_label,
    needs=("features", "head"),
    options=OPTIONS,
  )
)
register(
  Strategy(
    "power_bald",
    power(select),
    power(select_multi_label),
    needs=("features", "head"),
    options=(*OPTIONS, POWER_BETA),
  )
)
