"""Alias: `python -m decern_jax.compare` is `decern-jax compare`."""

from decern_jax.cli import console

if __name__ == "__main__":
  console.main("compare")
