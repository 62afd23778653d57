"""A run with people that is trained once, and copied by the tests."""

import contextlib
import dataclasses
import io
import os
import pathlib
import shutil

from etils import epath
import pytest

from decern_jax.annotation.run import run_with_people
from tests import tiny
from tests.annotation import hidden


@dataclasses.dataclass(frozen=True)
class TrueRun:
  """A run whose queries were all answered truly.

  Attributes:
    folder: Folder with the images and weights.
    class_of: The class of each image of the pool, by id.
    stages: The folder of the run after each command. The queries of rounds 0,
      1 and 2 wait for answers in the first three; the last one is finished.
    outputs: The output of each command.
  """

  folder: pathlib.Path
  class_of: dict[str, str]
  stages: tuple[pathlib.Path, ...]
  outputs: tuple[str, ...]


@pytest.fixture(scope="session")
def true_run(tmp_path_factory) -> TrueRun:
  folder = tmp_path_factory.mktemp("true_run")
  class_of = hidden.write_images(folder / "images")
  tiny.write_weights(folder / "weights.safetensors")
  run, stages, outputs = folder / "run", [], []
  for stage in range(hidden.NUM_ROUNDS + 1):
    if stage:
      hidden.respond_truly(run, class_of)
    with contextlib.redirect_stdout(io.StringIO()) as output:
      run_with_people(hidden.make_config(folder), epath.Path(run))
    outputs.append(output.getvalue())
    stages.append(folder / f"stage{stage}")
    shutil.copytree(run, stages[-1])
  return TrueRun(folder, class_of, tuple(stages), tuple(outputs))


@pytest.fixture
def where(tmp_path) -> pathlib.Path:
  """Folder of the run of a test."""
  return tmp_path / "run"


@pytest.fixture
def start(true_run, where, capsys):
  """Runs the command on the images of `true_run`; returns its output."""

  def start(*, go_on: bool = False, **changes) -> str:
    changes.setdefault("dataset__path", os.fspath(true_run.folder / "images"))
    config = hidden.make_config(true_run.folder, **changes)
    run_with_people(config, epath.Path(where), go_on=go_on)
    return capsys.readouterr().out

  return start


@pytest.fixture
def copy_stage(true_run, where):
  """Makes the run of a test a copy of a stage of `true_run`."""
  return lambda stage: shutil.copytree(true_run.stages[stage], where)
