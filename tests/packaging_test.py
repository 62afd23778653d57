"""Tests of setup.py: what is packaged, and what a part of it needs."""

import os
import pathlib
import subprocess
import sys

import pytest

from tests import tiny

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
