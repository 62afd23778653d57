"""Alias: `python -m decern_jax.pretrain` runs `decern_jax.cli.pretrain`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "decern_jax.cli.pretrain", run_name="__main__", alter_sys=True
  )
