"""Runs the scripts of `launch/` with programs of the tests before the real."""

from collections.abc import Mapping, Sequence
import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "launch"


def clean_environment(bin_folder: pathlib.Path) -> dict[str, str]:
  """The variables of a shell in which nothing of ours is set."""
  return {
    "PATH": f"{bin_folder}:{os.environ['PATH']}",
    "HOME": str(bin_folder),
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
  }


def install(bin_folder: pathlib.Path, name: str, source: str) -> None:
  """Puts a program of the tests where the shell finds it first."""
  bin_folder.mkdir(exist_ok=True)
  path = bin_folder / name
  path.write_text(source)
  path.chmod(0o755)


def run(
  script: str,
  arguments: Sequence[str],
  environment: Mapping[str, str],
  *,
  cwd: pathlib.Path = ROOT,
) -> subprocess.CompletedProcess[str]:
  """Runs a script of `launch/` to its end, 60 seconds at most."""
  return subprocess.run(
    ["bash", str(LAUNCH / script), *arguments],
    cwd=cwd,
    env=dict(environment),
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )


def lines(path: pathlib.Path) -> list[list[str]]:
  """What a program of the tests logged: the arguments of every call."""
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines()]
