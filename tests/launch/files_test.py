import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from tests.launch import scripts
from tests.table import each

SHELL = sorted(scripts.LAUNCH.glob("*.sh"))
COMMANDS = [path for path in SHELL if path.name != "require.sh"]
DOCS = scripts.ROOT / "docs/launch.md"


def required_by(path) -> set[str]:
  """The variables that a script refuses to run without."""
  text = path.read_text().replace("\\\n", " ")
  calls = re.findall(r"^require ([A-Z_ ]+)$", text, re.M)
  return {name for call in calls for name in call.split()}


def jax_extras() -> set[str]:
  return set(importlib.metadata.metadata("jax").get_all("Provides-Extra") or ())


class TestShell:
  def test_is_clean(self):
    beside = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    checker = shutil.which("shellcheck", path=beside)
    if checker is None:
      pytest.skip("no shellcheck")
    paths = [str(path.relative_to(scripts.ROOT)) for path in SHELL]
    done = subprocess.run(
      [checker, "--external-sources", *paths],
      cwd=scripts.ROOT,
      capture_output=True,
      text=True,
      check=False,
    )
    assert done.returncode == 0, done.stdout

  @each("path", SHELL)
  def test_parses(self, path):
    subprocess.run(["bash", "-n", str(path)], check=True)

  @each("path", COMMANDS)
  def test_stops_at_the_first_error(self, path):
    assert "\nset -euo pipefail\n" in path.read_text()

  @each("path", COMMANDS)
  def test_head_tells_variables_and_an_example(self, path):
    head = path.read_text().split("\nset -euo pipefail\n")[0]
    assert "# Example" in head
    for name in required_by(path):
      assert re.search(rf"\b{name}\b", head), name

  @each("path", COMMANDS)
  def test_all_it_reads_is_told_in_its_head(self, path):
    head, _, body = path.read_text().partition("\nset -euo pipefail\n")
    optional = set(re.findall(r"\$\{([A-Z][A-Z_]+):?[-?+]", body))
    given = {"BASH_SOURCE", "SLURM_SUBMIT_DIR", "SLURM_RESTART_COUNT"}
    for name in optional - given:
      assert re.search(rf"\b{name}\b", head), name


class TestInstall:
  def test_rejects_an_unknown_extra(self, tmp_path):
    environment = scripts.clean_environment(tmp_path) | {"EXTRA": "cuda11"}
    done = scripts.run("install.sh", [], environment)
    assert done.returncode == 64
    assert "Expected `EXTRA` in tpu, cuda12, cuda13, got cuda11" in done.stderr

  def test_extras_are_those_of_jax(self):
    text = (scripts.LAUNCH / "install.sh").read_text()
    (names,) = re.findall(r"^  (tpu .*)\) ;;$", text, re.M)
    assert set(names.split(" | ")) <= jax_extras()


class TestImage:
  def test_copies_what_is_there_and_not_ignored(self):
    text = (scripts.LAUNCH / "Dockerfile").read_text()
    lines = (scripts.LAUNCH / "Dockerfile.dockerignore").read_text().split()
    kept = {line.removeprefix("!") for line in lines if line[0] == "!"}
    copies = re.findall(r"^COPY (.+) \S+$", text, re.M)
    sources = {name for copy in copies for name in copy.split()}
    assert sources == kept
    for name in sources:
      assert (scripts.ROOT / name).exists(), name

  def test_starts_the_worker(self):
    text = (scripts.LAUNCH / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["bash", "launch/worker.sh"]' in text

  def test_names_an_extra_of_jax(self):
    text = (scripts.LAUNCH / "Dockerfile").read_text()
    (extra,) = re.findall(r"^ARG EXTRA=(\w+)$", text, re.M)
    assert extra in jax_extras()


class TestDocs:
  @each("path", SHELL)
  def test_tell_what_is_required(self, path):
    text = DOCS.read_text()
    for name in required_by(path):
      assert name in text, name

  def test_name_every_file(self):
    text = DOCS.read_text()
    for path in scripts.LAUNCH.iterdir():
      if path.suffix != ".dockerignore" and path.is_file():
        assert path.name in text, path.name
