"""Alias: `python -m decern_jax.main` runs `decern_jax.cli.main`."""

import runpy

if __name__ == "__main__":
  runpy.run_module("decern_jax.cli.main", run_name="__main__", alter_sys=True)
