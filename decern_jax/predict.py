"""Alias: `python -m decern_jax.predict` is `decern-jax predict`."""

from decern_jax.cli import console

if __name__ == "__main__":
  console.main("predict")
