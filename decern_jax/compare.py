"""Alias: `python -m decern_jax.compare` runs `decern_jax.cli.compare`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "decern_jax.cli.compare", run_name="__main__", alter_sys=True
  )
