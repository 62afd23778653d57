"""Alias: `python -m decern_jax.label` runs `decern_jax.cli.label`."""

import runpy

if __name__ == "__main__":
  runpy.run_module("decern_jax.cli.label", run_name="__main__", alter_sys=True)
