"""What keeps the package from running on Windows and macOS."""

import ast
import pathlib

from tests import tiny

PACKAGE = tiny.ROOT / "decern_jax"
FILES = sorted([*PACKAGE.rglob("*.py"), *(tiny.ROOT / "configs").glob("*.py")])

MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "tty"}
# Functions and constants that exist on POSIX only, or act otherwise there.
NAMES = {
  "os": {
    *("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_SYNC", "chown", "fork"),
    *("geteuid", "getuid", "kill", "killpg", "link", "mkfifo", "rename"),
    *("renames", "setsid", "symlink", "uname"),
  },
  "signal": {
    *("SIGALRM", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2"),
    *("alarm", "pause", "setitimer"),
  },
}
METHODS = {"hardlink_to", "rename", "symlink_to"}
FOLDERS = ("/dev/", "/proc", "/sys/", "/tmp")
# Guarded by `hasattr`.
ALLOWED = {"annotation/page/server.py: os.getuid"}


def offences(source: str) -> set[str]:
  """What a file uses that other systems do not have."""
  found = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      found |= {a.name for a in node.names if a.name in MODULES}
    elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
      found.add(str(node.module))
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
      if node.attr in NAMES.get(node.value.id, ()):
        found.add(f"{node.value.id}.{node.attr}")
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
      found |= {f for f in FOLDERS if node.value.startswith(f)}
    elif isinstance(node, ast.Call):
      found |= offences_of_call(node)
  return found


def offences_of_call(call: ast.Call) -> set[str]:
  """A method that other systems do not have, or text without an encoding."""
  function = call.func
  constants = [a.value for a in call.args if isinstance(a, ast.Constant)]
  has_encoding = "encoding" in {k.arg for k in call.keywords}
  has_encoding = has_encoding or "utf-8" in constants
  if isinstance(function, ast.Attribute):
    is_module = isinstance(function.value, ast.Name)
    if function.attr in METHODS:
      return {function.attr}
    # `document.write_text` is a function of this package.
    is_own = is_module and ast.unparse(function.value) == "document"
    is_text = function.attr in ("read_text", "write_text") and not is_own
    return {function.attr} if is_text and not has_encoding else set()
  is_open = isinstance(function, ast.Name) and function.id == "open"
  modes = [c for c in constants if isinstance(c, str)]
  is_binary = any("b" in mode for mode in modes)
  return {"open"} if is_open and not is_binary and not has_encoding else set()


def test_only_what_every_system_has_is_used():
  found = {
    f"{path.relative_to(PACKAGE).as_posix()}: {offence}"
    for path in FILES
    if path.is_relative_to(PACKAGE)
    for offence in offences(path.read_text(encoding="utf-8"))
  }
  assert found == ALLOWED


def test_offences_are_seen():
  source = """
import fcntl, os, signal
from pwd import getpwnam
os.fork(), signal.SIGKILL, path.rename(a), open(p), open(p, "w")
open(p, "rb"), open(p, encoding="utf-8"), path.read_text("utf-8")
x = "/proc/self", path.write_text(t)
"""
  assert offences(source) == {
    *("fcntl", "pwd", "os.fork", "signal.SIGKILL", "rename", "open"),
    *("/proc", "write_text"),
  }


def test_file_names_differ_in_more_than_case():
  """And have no character that Windows forbids."""
  for folder in ("configs", "decern_jax", "docs"):
    names = [str(path).lower() for path in (tiny.ROOT / folder).rglob("*")]
    assert len(set(names)) == len(names)
    files = [pathlib.Path(name).name for name in names]
    assert [name for name in files if set(name) & set('<>:"\\|?*')] == []


def test_commands_need_neither_modules_of_posix_nor_tfds():
  absent = {*MODULES - {"posix"}, "array_record", "tensorflow_datasets"}
  script = f"""
import sys
sys.modules.update(dict.fromkeys({sorted(absent)!r}))
import importlib
from decern_jax.cli import config_files, console
for module in console.VERBS.values():
  importlib.import_module(f"decern_jax.cli.{{module}}")
print(config_files.load("quickstart", config_files.RUN).dataset.name)
"""
  assert tiny.run_script(script) == "rendered\n"
