"""Types of the package and of its tests, checked by pyright in basic mode."""

import subprocess
import sys

from tests import tiny


def test_types_agree():
  # basedpyright is pyright, with the program that runs it in its wheel.
  # The project is named: a configuration in a parent folder would win.
  command = [sys.executable, "-m", "basedpyright"]
  command += ["--project", "pyproject.toml", "--pythonpath", sys.executable]
  done = subprocess.run(
    command,
    cwd=tiny.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stdout
