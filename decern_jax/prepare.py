"""Alias: `python -m decern_jax.prepare` runs `decern_jax.cli.prepare`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "decern_jax.cli.prepare", run_name="__main__", alter_sys=True
  )
