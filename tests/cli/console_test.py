"""Tests of decern_jax/cli/console.py."""

import importlib.metadata
import os
import subprocess
import sys

import pytest

from decern_jax.cli import command, console
from tests import tiny
from tests.table import each


@pytest.fixture
def started(monkeypatch):
  """What a command line starts: the module, and the command line it sees."""
  calls = []
  monkeypatch.setattr(
    command, "start", lambda module: calls.append((module.__name__, sys.argv))
  )

  def started(*arguments, verb=None):
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    calls.clear()
    console.main(verb)
    return calls

  return started


def run(*arguments, folder, script=None):
  """Runs Python in another folder, where only the path finds the package."""
  return subprocess.run(
    [sys.executable, *(["-c", script] if script else ["-m"]), *arguments],
    cwd=folder,
    capture_output=True,
    text=True,
    check=False,
    env={**os.environ, "PYTHONPATH": os.fspath(tiny.ROOT)},
  )


class TestVerbs:
  def test_are_all_commands(self):
    modules = {
      path.stem
      for path in (tiny.ROOT / "decern_jax" / "cli").glob("*.py")
      if "\nCOMMAND = " in path.read_text()
    }
    assert set(console.VERBS.values()) == modules

  def test_have_a_line_each_that_fits(self, started, capsys):
    assert started("--help") == []
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) < 80
    for verb in console.VERBS:
      (line,) = [line for line in lines if line.startswith(f"  {verb} ")]
      assert line.endswith(f" {console.summary_of(verb)}")
      assert line.endswith(".")

  @each("verb, module", console.VERBS.items())
  def test_run_their_modules(self, started, verb, module):
    ((name, argv),) = started(verb, "--a=1", "b")
    assert name == f"decern_jax.cli.{module}"
    assert argv == [f"decern-jax {verb}", "--a=1", "b"]
    assert started("--a=1", verb=verb)[0][0] == name

  @each(
    "arguments, message",
    [
      ([], ""),
      (["rum", "--a"], "error: Unknown verb 'rum'. Did you mean 'run'?\n\n"),
      (["--config=a"], "error: Unknown verb '--config=a'.\n\n"),
    ],
  )
  def test_others_are_refused_with_the_list(
    self, started, capsys, arguments, message
  ):
    with pytest.raises(SystemExit) as exit_:
      started(*arguments)
    assert exit_.value.code == 2
    assert capsys.readouterr().err == f"{message}{console.describe()}\n"

  @each(
    "arguments", [["--version"], ["run", "--version"], ["rum", "--version"]]
  )
  def test_tell_the_version(self, started, capsys, arguments):
    assert started(*arguments) == []
    version = importlib.metadata.version("decern_jax")
    assert capsys.readouterr().out == f"decern-jax {version}\n"

  def test_tell_which_package_is_missing(self, started, monkeypatch):
    def fail(name):
      raise ModuleNotFoundError("No module named 'flax'", name="flax")

    monkeypatch.setattr(console.importlib, "import_module", fail)
    message = (
      r"^error: decern-jax run needs the package flax.*decern_jax\[run\]"
    )
    with pytest.raises(SystemExit, match=message):
      started("run")


class TestProcess:
  def test_list_of_verbs_imports_no_jax(self, tmp_path):
    script = (
      "import sys; sys.argv = ['a', '--help'];"
      "from decern_jax.cli import console; console.main();"
      "print({'jax', 'numpy', 'absl'} & set(sys.modules))"
    )
    done = run(folder=tmp_path, script=script)
    assert done.stdout == f"{console.describe()}\nset()\n"

  def test_module_and_alias_are_the_command(self, tmp_path):
    for name in ("decern_jax.main", "decern_jax.report", "decern_jax"):
      done = run(name, "--version", folder=tmp_path)
      assert done.stdout.startswith("decern-jax "), done.stderr

  def test_help_and_names_work_in_any_folder(self, tmp_path):
    done = run(
      "decern_jax", "run", "--config=quickstart", "--help", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "  --config.num_rounds=6\n" in done.stdout
    assert max(map(len, done.stdout.splitlines())) < 81
