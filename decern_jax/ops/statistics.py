"""Moments of the scores of a pool, and the threshold made of them."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from decern_jax.distributed.collective import AxisName, psum


class Moments(NamedTuple):
  """Population moments of the scores of a pool.

  Attributes:
    mean: The mean.
    std: The population standard deviation, at least 0.
    skewness: The biased skewness; 0 where all scores are equal.
  """

  mean: Float[Array, ""]
  std: Float[Array, ""]
  skewness: Float[Array, ""]


def pairwise_sum(values: Float[Array, "rows ..."]) -> Float[Array, "..."]:
  """Returns the sum over rows, halves first.

  Its rounding grows with the logarithm of the rows: sums of one pool agree to a
  few units in the last place however it is split, where a running sum of a
  million rows is off by thousands of them.

  Args:
    values: The values.
  """
  size = 1 << (len(values) - 1).bit_length()
  padding = [(0, size - len(values))] + [(0, 0)] * (values.ndim - 1)
  values = jnp.pad(values, padding)
  while len(values) > 1:
    half = len(values) // 2
    values = values[:half] + values[half:]
  return values[0]


def moments(
  scores: Float[Array, " pool"],
  valid: Bool[Array, " pool"],
  *,
  axis_name: AxisName = None,
) -> Moments:
  """Returns mean, standard deviation and skewness of the valid scores.

  With m_k the k-th central moment, skewness = m_3 / m_2^1.5. The central
  moments are sums of deviations from the mean (two passes), so that a large
  mean costs no digits. Scores that differ by rounding alone count as equal.

  Args:
    scores: One score per row of the pool.
    valid: True at the rows that exist; all of them False gives zeros.
    axis_name: Mesh axes that the pool is split over, inside `shard_map`.

  Returns:
    The moments, equal on every shard.
  """
  count = psum(jnp.sum(valid), axis_name).astype(scores.dtype)
  count = jnp.maximum(count, 1.0)

  def mean_of(values):
    total = pairwise_sum(jnp.where(valid, values, 0.0))
    return psum(total, axis_name) / count

  mean = mean_of(scores)
  deviation = scores - mean
  variance = mean_of(deviation**2)
  std = jnp.sqrt(variance)
  rounding = jnp.finfo(scores.dtype).eps * jnp.abs(mean)
  is_constant = std <= 4.0 * rounding
  scaled = deviation / jnp.where(is_constant, 1.0, std)
  skewness = jnp.where(is_constant, 0.0, mean_of(scaled**3))
  return Moments(mean, std, skewness)


def uncertainty_threshold(
  scores: Float[Array, " pool"],
  valid: Bool[Array, " pool"],
  *,
  gamma: float | Float[Array, ""],
  axis_name: AxisName = None,
) -> Float[Array, ""]:
  """Returns `mean + gamma · std · skewness` of the valid scores.

  The candidates of a round are the examples whose score is above it.

  Args:
    scores: One score per row of the pool.
    valid: True at the rows that exist.
    gamma: Factor of the skew term; 0.5 as published.
    axis_name: Mesh axes that the pool is split over, inside `shard_map`.

  Returns:
    The threshold.

  References:
    Jin and Yang, "Combining Discrepancy-Confusion Uncertainty and Calibration
    Diversity for Active Fine-Grained Image Classification", ECCV 2026,
    https://arxiv.org/abs/2509.24181.
  """
  mean, std, skewness = moments(scores, valid, axis_name=axis_name)
  return mean + gamma * std * skewness
