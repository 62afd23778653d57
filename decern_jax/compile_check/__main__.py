"""Alias: this runs the command `decern_jax.cli.compile_check`."""

import runpy

if __name__ == "__main__":
  runpy.run_module(
    "decern_jax.cli.compile_check", run_name="__main__", alter_sys=True
  )
