"""Tests of setup.py: what is packaged, and what a part of it needs."""

import ast
import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys

import pytest

from decern_jax.cli import console
from decern_jax.data import table, tfds_builder
from decern_jax.models import hub
from tests import tiny
from tests.architecture_test import imports_of
from tests.table import each

# Modules of the packages of a core installation.
CORE = {"jax", "jaxtyping", "numpy", "optax"}
STANDARD = {"decern_jax", *sys.stdlib_module_names}

# Folders whose every file is in the sdist, so that it can run its tests.
SOURCES = ("benchmarks", "configs", "decern_jax", "docs", "launch", "tests")


def files_of(folder: str) -> set[str]:
  """Every file of a folder of the checkout, compiled ones left out."""
  return {
    path.relative_to(tiny.ROOT).as_posix()
    for path in (tiny.ROOT / folder).rglob("*")
    if path.is_file() and path.suffix != ".pyc"
  }


def run_python(*arguments: str, where: pathlib.Path, **environment: str) -> str:
  """Runs Python and returns what it printed, or its error."""
  done = subprocess.run(
    [sys.executable, *arguments],
    cwd=where,
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  return done.stdout if done.returncode == 0 else done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> pathlib.Path:
  """A folder with the list of the sdist's files, and the wheel's files."""
  pytest.importorskip("setuptools")
  folder = tmp_path_factory.mktemp("built")
  run_python(
    "setup.py",
    *("-q", "egg_info", f"--egg-base={folder}"),
    *("build_py", f"--build-lib={folder / 'wheel'}"),
    where=tiny.ROOT,
  )
  return folder


class TestSdist:
  def test_holds_every_file_of_the_sources(self, built):
    (listing,) = built.glob("*.egg-info/SOURCES.txt")
    names = listing.read_text().splitlines()
    packed = {name for name in names if ".egg-info/" not in name}
    expected = set.union(*map(files_of, SOURCES))
    assert len(expected) > 500
    assert expected - packed == set()
    assert packed - expected == {
      *("LICENSE", "MANIFEST.in", "README.md"),
      *("constraints.txt", "pyproject.toml", "setup.py", ".ci/run"),
    }


class TestWheel:
  def test_holds_the_package_and_the_configurations(self, built):
    wheel = built / "wheel"
    packed = {
      path.relative_to(wheel).as_posix()
      for path in wheel.rglob("*")
      if path.is_file()
    }
    configs = {f"decern_jax/{name}" for name in files_of("configs")}
    assert packed == files_of("decern_jax") | configs

  def test_configurations_are_imported_in_any_folder(self, built, tmp_path):
    script = """
from decern_jax.configs import label_file
print(label_file.__file__, label_file.get_config().model.name)
"""
    found = run_python(
      "-c", script, where=tmp_path, PYTHONPATH=str(built / "wheel")
    )
    file = built / "wheel" / "decern_jax" / "configs" / "label_file.py"
    assert found == f"{file} mobilenet_v2\n"


# Runs a statement where some modules are not installed.
ABSENT = """
import sys
from importlib.machinery import PathFinder
hidden, find = sys.argv[1].split(","), PathFinder.find_spec
PathFinder.find_spec = lambda name, *args: (
  None if name.split(".")[0] in hidden else find(name, *args)
)
exec(sys.argv[2])
"""


def imported(path: pathlib.Path) -> tuple[set[str], set[str]]:
  """Top-level modules that a file imports: at its top, and anywhere."""
  tree = ast.parse(path.read_text())
  top = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
  found = imports_of(ast.Module(list(top), [])), imports_of(tree)
  at_top, anywhere = ({n.split(".")[0] for n in names} for names in found)
  return at_top - STANDARD, anywhere - STANDARD


class TestExtras:
  def test_functions_and_strategies_need_no_extra(self):
    for room in ("ops", "strategies"):
      for path in (tiny.ROOT / "decern_jax" / room).rglob("*.py"):
        assert imported(path)[1] <= CORE, path
    script = """
import numpy as np
import decern_jax
print(decern_jax.select("margin", probs=np.eye(3) * 0.9 + 0.1 / 3, budget=1))
print([name for name in hidden if name in sys.modules])
"""
    hidden = ",".join(console.RUN_MODULES)
    found = run_python("-c", ABSENT, hidden, script, where=tiny.ROOT)
    assert found == "[0]\n[]\n"

  def test_commands_need_run_and_say_so(self, built):
    (listing,) = built.glob("*.egg-info/requires.txt")
    section = listing.read_text().split("[run]\n")[1].split("\n\n")[0]
    needed = {
      re.split(r"[\[>=]", line)[0].lower().replace("_", "-")
      for line in section.splitlines()
    }
    homes = importlib.metadata.packages_distributions()
    homes = {
      module: {name.lower().replace("_", "-") for name in homes[module]}
      for module in console.RUN_MODULES
    }
    assert {name for names in homes.values() for name in names & needed} == (
      needed
    )
    assert [name for name in homes if not homes[name] & needed] == []
    label = """
from decern_jax.cli import console
console.main("label")
"""
    found = run_python("-c", ABSENT, "flax,cv2", label, where=tiny.ROOT)
    assert found == (
      "error: A command of decern_jax needs the packages cv2, flax, which are"
      " not installed: pip install 'decern_jax[run]'\n"
    )

  def test_the_list_of_verbs_needs_no_extra(self):
    hidden = ",".join(console.RUN_MODULES)
    script = """
sys.argv[1:] = ["--help"]
from decern_jax.cli import console
console.main()
"""
    found = run_python("-c", ABSENT, hidden, script, where=tiny.ROOT)
    assert found == f"{console.describe()}\n"

  def test_other_extras_are_imported_where_they_are_used(self):
    known = {*CORE, *console.RUN_MODULES}
    others = set()
    for path in (tiny.ROOT / "decern_jax").rglob("*.py"):
      at_top, anywhere = imported(path)
      assert at_top <= known, path
      others |= anywhere - known
    assert others == {"huggingface_hub", "openpyxl", "tensorflow_datasets"}

  @each(
    "module, use, message",
    [
      (
        "openpyxl",
        lambda: table.read_excel(pathlib.Path("a.xlsx")),
        "Reading a.xlsx needs the package openpyxl, which is not installed: pip"
        " install 'decern_jax[excel]'",
      ),
      (
        "huggingface_hub",
        lambda: hub.fetch(hub.parse("hf://a/b@c")),
        "The file 'model.safetensors' of 'a/b' at c needs the package"
        " huggingface_hub, which is not installed: pip install"
        " 'decern_jax[hub]'",
      ),
      (
        "tensorflow_datasets",
        lambda: tfds_builder.open_builder("mnist", None),
        "The data set mnist needs the package tensorflow_datasets, which is not"
        " installed: pip install 'decern_jax[tfds]'",
      ),
    ],
  )
  def test_a_missing_one_is_one_line(self, monkeypatch, module, use, message):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
      use()
