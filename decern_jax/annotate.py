"""Alias: `python -m decern_jax.annotate` runs `decern_jax.cli.annotate`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "decern_jax.cli.annotate", run_name="__main__", alter_sys=True
  )
