"""Types of the package and of its tests, checked by pyright in basic mode."""

import hashlib
from importlib import metadata
import pathlib
import subprocess
import sys
import tomllib

from tests import tiny
from tests.conftest import COMPILED


def digest(root: pathlib.Path) -> str:
  """Names all that the types depend on: sources, settings and packages."""
  found = hashlib.sha256(sys.version.encode())
  packages = {f"{d.name}=={d.version}" for d in metadata.distributions()}
  found.update("\n".join(sorted(packages)).encode())
  settings = (root / "pyproject.toml").read_bytes()
  found.update(settings)
  for folder in tomllib.loads(settings.decode())["tool"]["pyright"]["include"]:
    for path in sorted((root / folder).rglob("*.py*")):
      if path.suffix in (".py", ".pyi"):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        found.update(f"{path.relative_to(root)} {content}\n".encode())
  return found.hexdigest()


def test_types_agree():
  """Sources that have passed are not checked again: it takes a minute."""
  passed = pathlib.Path(COMPILED) / f"types_agree_{digest(tiny.ROOT)}"
  if passed.exists():
    return
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
  passed.parent.mkdir(parents=True, exist_ok=True)
  passed.touch()


def test_digest_follows_every_source(tmp_path):
  (tmp_path / "pyproject.toml").write_text(
    '[tool.pyright]\ninclude = ["package"]\n'
  )
  (tmp_path / "package" / "room").mkdir(parents=True)
  digests = {digest(tmp_path)}
  for name in ("package/a.py", "package/room/b.pyi", "pyproject.toml"):
    with (tmp_path / name).open("a") as file:
      file.write("# A line.\n")
    digests.add(digest(tmp_path))
  assert len(digests) == 4
  assert digest(tmp_path) in digests
