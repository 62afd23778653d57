"""The loss of a module that learns to rank examples by their loss."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def mirrored_ranking_loss(
  predicted: Float[Array, " batch"],
  losses: Float[Array, " batch"],
  *,
  margin: float | Float[Array, ""] = 1.0,
  num_rows: Int[Array, ""] | None = None,
) -> Float[Array, ""]:
  """Returns how badly predicted losses rank pairs of examples of a batch.

  The first example is paired with the last, the second with the second to last,
  and so on. The middle one of an odd batch has no pair. The cost of a pair with
  losses l, l' and predictions s, s' is

    max(0, margin - sign (s - s')),   sign = 1 where l > l', else -1,

  and the costs are averaged. No gradient flows into the losses, which are the
  target of the module.

  Args:
    predicted: Predicted loss s of each example, on any scale.
    losses: Its loss l.
    margin: Difference that the predictions of a pair should have, above 0.
    num_rows: Only the first `num_rows` rows are examples. None means all.

  Returns:
    The mean cost, at least 0; 0 for a batch without a pair.

  References:
    Yoo and Kweon, "Learning Loss for Active Learning", CVPR 2019,
    https://arxiv.org/abs/1905.03677.
  """
  num_pairs = len(predicted) // 2
  if not num_pairs:
    return jnp.zeros((), predicted.dtype)

  firsts = jnp.arange(num_pairs)
  size = jnp.asarray(len(predicted) if num_rows is None else num_rows)
  is_pair = firsts < size // 2
  partners = jnp.maximum(size - 1 - firsts, 0)

  def differences(values):
    return values[:num_pairs] - values[partners]

  is_larger = differences(jax.lax.stop_gradient(losses)) > 0.0
  gaps = jnp.where(is_larger, 1.0, -1.0) * differences(predicted)
  costs = jnp.where(is_pair, jnp.maximum(margin - gaps, 0.0), 0.0)
  return jnp.sum(costs) / jnp.maximum(jnp.sum(is_pair), 1).astype(costs.dtype)
