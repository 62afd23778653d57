"""Alias: `python -m decern_jax.predict` runs `decern_jax.cli.predict`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "decern_jax.cli.predict", run_name="__main__", alter_sys=True
  )
