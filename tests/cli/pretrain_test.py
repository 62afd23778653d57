"""Tests of decern_jax/cli/pretrain.py, in this process, on tiny images."""

import contextlib
import io
import sys
from typing import Any, NamedTuple

from absl import flags
from etils import epath
import jax
import numpy as np
import pytest

from configs import pretrain_common
from decern_jax import models
from decern_jax.cli import command, pretrain
from decern_jax.distributed import processes
from decern_jax.pretraining import journal, loop, step
from decern_jax.runs import experiment, pretraining
from tests import tiny
from tests.models import tiny_models
from tests.table import each

MODEL = "tiny_resnet"


@pytest.fixture(autouse=True, scope="module")
def table():
  with tiny_models.in_table():
    yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  return tiny.write_image_folder(tmp_path_factory.mktemp("images") / "data")


@pytest.fixture(scope="module")
def make_config(data, tmp_path_factory):
  cache = tmp_path_factory.mktemp("cache")

  def make(**changes):
    config = pretrain_common.get_config()
    values = {
      "dataset.name": "image_folder",
      "dataset.path": str(data),
      "dataset.resize_size": tiny.SIZE,
      "dataset.image_size": tiny.SIZE,
      "model.name": MODEL,
      "model.weights": "random",
      "pretrain.projector": (16, 8),
      "train.num_epochs": 2,
      "train.warmup_epochs": 1,
      "train.batch_size": 8,
      "probe.every_epochs": 1,
      "system.num_devices": 1,
      "system.num_workers": 2,
      "system.cache_dir": str(cache),
    }
    changes = {name.replace("__", "."): v for name, v in changes.items()}
    config.update_from_flattened_dict({**values, **changes})
    return config.lock()

  return make


class Finished(NamedTuple):
  """A finished run.

  Attributes:
    folder: Its folder.
    variables: Those of the network at its end.
    seen: The fields of the configuration that it asked for.
    said: What it printed.
  """

  folder: epath.Path
  variables: Any
  seen: set[str]
  said: str


@pytest.fixture(scope="module")
def finished(make_config, tmp_path_factory) -> Finished:
  """The run of `make_config()`, which other tests must not change."""
  folder = epath.Path(tmp_path_factory.mktemp("finished") / "run")
  states, seen, output = [], set(), io.StringIO()
  run = loop.run

  def keep(*args, **options):
    states.append(run(*args, **options))
    return states[0]

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loop, "run", keep)
    # It reads all that it knows.
    patch.setattr(pretraining, "check", lambda config: None)
    with contextlib.redirect_stdout(output):
      pretrain.run(Watched(make_config(), "", seen), folder)
  variables = loop.variables_of(states[0])
  return Finished(folder, variables, seen, output.getvalue())


class TestRun:
  def test_leaves_weights_that_every_configuration_loads(
    self, finished, make_config, data, tmp_path
  ):
    """The trained network, bit by bit."""
    weights = finished.folder / pretrain.WEIGHTS_FILE
    finetuned = tiny.make_config(
      data,
      weights,
      tmp_path / "cache",
      train__scope="all",
      model__name=MODEL,
    )
    loaded = experiment.load(finetuned).backbone
    jax.tree.map(
      np.testing.assert_array_equal, loaded.variables, finished.variables
    )
    random = models.create(
      MODEL, weights="random", seed=make_config().seed, image_size=tiny.SIZE
    )
    kernels = (
      model.variables["params"]["conv1"]["kernel"] for model in (loaded, random)
    )
    assert np.not_equal(*kernels).any()

  def test_leaves_records_and_picture_and_no_checkpoint(self, finished):
    names = {path.name for path in finished.folder.iterdir()}
    assert names == {
      "backbone.safetensors",
      "config.json",
      "data.json",
      "epochs.jsonl",
      "loss_curve.png",
    }
    epochs = [record["epoch"] for record in journal.read(finished.folder)]
    assert epochs == [0, 1, 2]
    assert f"simclr of {MODEL} on 32 images" in finished.said
    assert finished.said.count("knn accuracy") == 3

  def test_finished_run_is_shown_and_not_repeated(
    self, finished, make_config, capsys, monkeypatch
  ):
    before = (finished.folder / pretrain.WEIGHTS_FILE).read_bytes()
    monkeypatch.setattr(step, "pretrain_step", None)
    pretrain.run(make_config(), finished.folder)
    assert "finished run" in capsys.readouterr().out
    assert (finished.folder / pretrain.WEIGHTS_FILE).read_bytes() == before

  def test_stopped_run_continues_to_the_same_weights(
    self, finished, make_config, tmp_path, monkeypatch
  ):
    stopped = epath.Path(tmp_path / "run")
    config = make_config(system__checkpoint_seconds=0.0)
    answers = iter([False] * 4 + [True])
    with monkeypatch.context() as patch:
      patch.setattr(processes, "is_stopping", lambda: next(answers))
      with pytest.raises(processes.PreemptedError):
        pretrain.run(config, stopped)
    assert not (stopped / pretrain.WEIGHTS_FILE).exists()
    pretrain.run(config, stopped)
    first, other = (
      (folder / pretrain.WEIGHTS_FILE).read_bytes()
      for folder in (finished.folder, stopped)
    )
    assert first == other

  def test_refuses_the_folder_of_other_settings(self, finished, make_config):
    with pytest.raises(ValueError, match="train.num_epochs: 2 there, 3 now"):
      pretrain.run(make_config(train__num_epochs=3), finished.folder)

  @each(
    "changes, message",
    [
      ({"pretrain__objective": "byol"}, "Unknown objective 'byol'"),
      ({"train__batch_size": 64}, "<= 32 training images, got 64"),
    ],
  )
  def test_says_what_is_wrong_before_it_claims_the_folder(
    self, make_config, tmp_path, changes, message
  ):
    folder = epath.Path(tmp_path / "run")
    with pytest.raises(ValueError, match=message):
      pretrain.run(make_config(**changes), folder)
    assert not list(tmp_path.rglob("*.json"))

  def test_reads_every_field(self, finished, make_config):
    fields = {name for name, _ in tiny.leaves(make_config().to_dict())}
    # Those of the data are the fields of all configurations, for all sources.
    unread = {name for name in fields - finished.seen if name[:8] != "dataset."}
    assert unread == set()
    assert {"dataset.path", "dataset.resize_size"} <= finished.seen


class Watched:
  """A configuration that notes which fields are asked for."""

  def __init__(self, config, prefix, seen):
    self._config, self._prefix, self._seen = config, prefix, seen

  def __getattr__(self, name):
    return self[name]

  def __getitem__(self, name):
    value = self._config[name]
    path = f"{self._prefix}{name}"
    if hasattr(value, "to_dict"):
      return Watched(value, f"{path}.", self._seen)
    self._seen.add(path)
    return value

  def to_dict(self):
    return self._config.to_dict()


@pytest.mark.usefixtures("restored_flags")
class TestMain:
  @pytest.fixture
  def call(self, monkeypatch):
    """Calls the command, and returns what `run` is called with."""

    def call(*arguments):
      file = tiny.ROOT / "configs" / "pretrain_quickstart.py"
      argv = ["pretrain", f"--config={file}", "--workdir=a/b", *arguments]
      monkeypatch.setattr(sys, "argv", argv)
      calls = []
      monkeypatch.setattr(pretrain, "run", lambda *args: calls.append(args))
      monkeypatch.setattr(processes, "stop_on_sigterm", lambda: None)
      pretrain.main(command.parse(argv))
      return calls[0]

    return call

  def test_gives_run_the_configuration_and_the_folder(self, call):
    config, folder = call("--config.pretrain.projector=(64, 32)")
    assert folder == epath.Path("a/b")
    assert config.pretrain.projector == (64, 32)
    flag = flags.FLAGS["config"].value
    assert flag is not None
    assert flag.is_locked

  def test_refuses_arguments(self, call):
    with pytest.raises(SystemExit, match="only flags"):
      call("extra")

  def test_names_a_field_that_does_not_exist(self, call):
    with pytest.raises(SystemExit) as exit_:
      call("--config.pretrain.objectiv=simclr")
    assert 'Did you mean "objective"' in str(exit_.value.code)
