"""Random numbers that belong to positions, whatever array holds them."""

import jax
from jaxtyping import Array, Float, Int, Key


def uniform_at(
  key: Key[Array, ""], positions: Int[Array, " rows"]
) -> Float[Array, " rows"]:
  """Returns a uniform draw in [0, 1) for each position of a pool.

  A position has the same draw whatever the padding of the pool and the number
  of shards it is split over.

  Args:
    key: Random key.
    positions: Positions in the whole pool.

  Returns:
    One draw per position.
  """
  keys = jax.vmap(lambda position: jax.random.fold_in(key, position))(positions)
  return jax.vmap(jax.random.uniform)(keys)
