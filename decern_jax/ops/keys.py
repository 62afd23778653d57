"""Random keys of a run: one for each seed, purpose and round."""

import zlib

import jax


def seed_key(seed: int, purpose: str) -> jax.Array:
  """Returns the key of one source of randomness in a run.

  Sources are independent: another way of drawing for one purpose leaves the
  draws for all others as they were, and runs of several strategies with one
  seed share all but the strategy's own.

  Args:
    seed: Seed of the run.
    purpose: Name of the source, such as "initial" or "query".

  Returns:
    The key.
  """
  return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))


def round_key(seed: int, purpose: str, round_num: int) -> jax.Array:
  """Returns the key of one source of randomness in one round.

  Args:
    seed: Seed of the run.
    purpose: Name of the source.
    round_num: The round.

  Returns:
    The key.
  """
  return jax.random.fold_in(seed_key(seed, purpose), round_num)


def host_seed(seed: int, purpose: str, round_num: int) -> tuple[int, ...]:
  """Returns the seed of one source of randomness on the host, in one round.

  Args:
    seed: Seed of the run.
    purpose: Name of the source.
    round_num: The round.

  Returns:
    Entropy for `numpy.random.default_rng`, to which further numbers can be
    appended.
  """
  return (seed, zlib.crc32(purpose.encode()), round_num)
