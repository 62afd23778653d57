"""Alias: `python -m decern_jax.prepare` is `decern-jax prepare`."""

from decern_jax.cli import console

if __name__ == "__main__":
  console.main("prepare")
