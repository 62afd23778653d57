"""Alias: `python -m decern_jax.main` is `decern-jax run`."""

from decern_jax.cli import console

if __name__ == "__main__":
  console.main("run")
