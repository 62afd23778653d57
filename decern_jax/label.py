"""Alias: `python -m decern_jax.label` is `decern-jax label`."""

from decern_jax.cli import console

if __name__ == "__main__":
  console.main("label")
