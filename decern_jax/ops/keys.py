"""Random keys, one for each seed, purpose and round, and draws for rows."""

import zlib

import jax
from jaxtyping import Array, Float, Int, Key


def seed_key(seed: int, purpose: str) -> jax.Array:
  """Returns the key of one source of randomness in a run.

  Sources are independent. A change of how one purpose draws leaves the draws of
  all others as they are. Runs of several strategies with one seed share all
  draws except those of the strategies.

  Args:
    seed: Seed of the run.
    purpose: Name of the source, such as "initial" or "query".
  """
  return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))


def round_key(seed: int, purpose: str, round_num: int) -> jax.Array:
  """Returns the key of one source of randomness in one round."""
  return jax.random.fold_in(seed_key(seed, purpose), round_num)


def host_seed(seed: int, purpose: str, round_num: int) -> tuple[int, ...]:
  """Returns the seed of one source of randomness on the host, in one round.

  Returns:
    Entropy for `numpy.random.default_rng`, to which further numbers can be
    appended.
  """
  return (seed, zlib.crc32(purpose.encode()), round_num)


def uniform_at(
  key: Key[Array, ""], indices: Int[Array, " rows"]
) -> Float[Array, " rows"]:
  """Returns a uniform draw in [0, 1) for each row of a pool.

  The draw of a row depends only on the key and its index, not on the padding of
  the pool or the number of shards.
  """
  keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(indices)
  return jax.vmap(jax.random.uniform)(keys)
