"""Strategies whose score is a short formula, and random selection."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from decern_jax.ops import uncertainty
from decern_jax.strategies.base import Pool, Selection, Strategy, register
from decern_jax.strategies.pick import (
  CLUSTER_OPTIONS,
  POWER_BETA,
  clustered,
  draw_uniform,
  power,
  ranked,
  take_highest,
)


def select_random(key: Key[Array, ""], pool: Pool, *, budget: int) -> Selection:
  """Selects uniformly without replacement: the baseline of all comparisons.

  Returns:
    The selection, without scores.
  """
  noise = draw_uniform(key, pool.candidates)
  return Selection(take_highest(noise, pool.candidates, budget=budget), None)


@jax.jit
def entropy(pool: Pool) -> Float[Array, " pool"]:
  """Scores by the entropy of the prediction, in nats.

  References:
    Settles, "Active Learning Literature Survey", 2009.
  """
  return uncertainty.entropy(pool.probs)


@jax.jit
def label_entropy(pool: Pool) -> Float[Array, " pool"]:
  """Scores by the sum of the labels' binary entropies, in nats."""
  return uncertainty.binary_entropy(pool.probs)


@jax.jit
def least_confidence(pool: Pool) -> Float[Array, " pool"]:
  """Scores by 1 - max p, in [0, 1].

  References:
    Lewis and Gale, "A Sequential Algorithm for Training Text Classifiers",
    SIGIR 1994.
  """
  return uncertainty.least_confidence(pool.probs)


@jax.jit
def label_least_confidence(pool: Pool) -> Float[Array, " pool"]:
  """Scores by the mean over the labels of 1 - max(p, 1 - p), in [0, 1/2]."""
  return uncertainty.binary_least_confidence(pool.probs)


@jax.jit
def margin(pool: Pool) -> Float[Array, " pool"]:
  """Scores by 1 - difference of the two largest probabilities, in [0, 1].

  References:
    Scheffer, Decomain and Wrobel, "Active Hidden Markov Models for Information
    Extraction", IDA 2001.
  """
  return 1.0 - uncertainty.margin(pool.probs)


@jax.jit
def label_margin(pool: Pool) -> Float[Array, " pool"]:
  """Scores by 1 - the smallest |2 p - 1| of any label, in [0, 1]."""
  return 1.0 - uncertainty.binary_margin(pool.probs)


@jax.jit
def gradient_magnitude(pool: Pool) -> Float[Array, " pool"]:
  """Scores by the length of the cross-entropy's gradient by the head's kernel.

  With the most likely class as the label, the gradient at an example with
  features h and prediction p is h outer (p - onehot(argmax p)), of length

    |h| |p - onehot(argmax p)|.
  """
  probs = pool.probs
  top = jnp.argmax(probs, axis=-1)
  label = jax.nn.one_hot(top, probs.shape[-1], dtype=probs.dtype)
  return _gradient_length(pool, probs - label)


@jax.jit
def label_gradient_magnitude(pool: Pool) -> Float[Array, " pool"]:
  """Scores by the length of the binary cross-entropy's gradient.

  The criterion is published; the formula is this project's choice. With the
  prediction, thresholded at 1/2, as the labels, the gradient of the sum over
  the labels c is h outer (p - [p >= 1/2]), of length

    |h| sqrt(sum over c of min(p_c, 1 - p_c)²),

  which is the smallest over all labels.

  References:
    Möllenbrok and Demir, "Active Learning Guided Fine-Tuning for enhancing
    Self-Supervised Based Multi-Label Classification of Remote Sensing Images",
    IGARSS 2023, https://arxiv.org/abs/2306.06908.
  """
  return _gradient_length(pool, jnp.minimum(pool.probs, 1.0 - pool.probs))


def _gradient_length(pool: Pool, residuals) -> Float[Array, " pool"]:
  lengths = jnp.linalg.norm(pool.features, axis=-1)
  lengths = lengths * jnp.linalg.norm(residuals, axis=-1)
  return jnp.where(pool.candidates, lengths, 0.0)


def temporal_discrepancy(
  key: Key[Array, ""], pool: Pool, *, budget: int
) -> Selection:
  """Selects the largest changes of the prediction since the previous round.

  With the predictions p of this round and p' of the previous round, the score
  is |p - p'|, a lower bound of the loss that remains at the example. In the
  first round, which has no previous one, the selection is random.

  Returns:
    The selection; scores are the distances, 0 at examples that are not
    candidates. In the first round there are no scores.

  References:
    Huang, Wang, Huang, Dong, Liu, Lin and Liu, "Semi-Supervised Active Learning
    with Temporal Output Discrepancy", ICCV 2021,
    https://arxiv.org/abs/2107.14153. Möllenbrok, Sumbul and Demir, "Deep Active
    Learning for Multi-Label Classification of Remote Sensing Images", IEEE GRSL
    2023, https://arxiv.org/abs/2212.01165.
  """
  if pool.previous_probs is None:
    return select_random(key, pool, budget=budget)
  return ranked(_prediction_change)(key, pool, budget=budget)


@jax.jit
def _prediction_change(pool):
  distances = jnp.linalg.norm(pool.probs - pool.previous_probs, axis=-1)
  return jnp.where(pool.candidates, distances, 0.0)


register(Strategy("random", select_random, select_random))
register(
  Strategy(
    "temporal_discrepancy",
    temporal_discrepancy,
    temporal_discrepancy,
    needs=("probs", "previous_probs"),
  )
)
register(
  Strategy(
    "temporal_discrepancy_clustered",
    clustered(temporal_discrepancy),
    clustered(temporal_discrepancy),
    needs=("features", "probs", "previous_probs"),
    options=CLUSTER_OPTIONS,
  )
)
register(
  Strategy(
    "gradient_magnitude",
    ranked(gradient_magnitude),
    ranked(label_gradient_magnitude),
    needs=("features", "probs"),
  )
)
register(
  Strategy(
    "gradient_magnitude_clustered",
    clustered(ranked(gradient_magnitude)),
    clustered(ranked(label_gradient_magnitude)),
    needs=("features", "probs"),
    options=CLUSTER_OPTIONS,
  )
)
for _name, _score, _label_score in (
  ("entropy", entropy, label_entropy),
  ("least_confidence", least_confidence, label_least_confidence),
  ("margin", margin, label_margin),
):
  register(
    Strategy(_name, ranked(_score), ranked(_label_score), needs=("probs",))
  )
for _name, _score, _label_score in (
  ("power_entropy", entropy, label_entropy),
  ("power_margin", margin, label_margin),
):
  register(
    Strategy(
      _name,
      power(ranked(_score)),
      power(ranked(_label_score)),
      needs=("probs",),
      options=(POWER_BETA,),
    )
  )
