"""Commands that SIGINT ends, wherever the tests were started.

What was started in the background ignores it, and hands that on.
"""

import sys

_START = (
  "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL);"
  " os.execvp(sys.argv[1], sys.argv[1:])"
)


def command(*parts: str) -> list[str]:
  """Returns a command that does not ignore SIGINT.

  Args:
    *parts: The program and its arguments.
  """
  return [sys.executable, "-c", _START, *parts]
