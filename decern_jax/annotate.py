"""Alias: `python -m decern_jax.annotate` is `decern-jax annotate`."""

from decern_jax.cli import console

if __name__ == "__main__":
  console.main("annotate")
