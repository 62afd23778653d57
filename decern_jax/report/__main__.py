"""Alias: `python -m decern_jax.report` is `decern-jax report`."""

from decern_jax.cli import console

if __name__ == "__main__":
  console.main("report")
