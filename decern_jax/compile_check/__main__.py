"""Alias: `python -m decern_jax.compile_check` is `decern-jax compile-check`."""

from decern_jax.cli import console

if __name__ == "__main__":
  console.main("compile-check")
