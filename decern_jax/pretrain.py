"""Alias: `python -m decern_jax.pretrain` is `decern-jax pretrain`."""

from decern_jax.cli import console

if __name__ == "__main__":
  console.main("pretrain")
