"""Tests of decern_jax/cli/pretrain.py, in this process, on tiny images."""

import sys

from absl import flags, logging
from absl.testing import flagsaver
from etils import epath
import numpy as np
import pytest

from configs import pretrain_common
from decern_jax import models
from decern_jax.cli import config_flag, pretrain
from decern_jax.distributed import processes
from decern_jax.pretraining import journal, loop, step
from decern_jax.runs import experiment, pretraining
from tests import networks, tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  return tiny.write_image_folder(tmp_path_factory.mktemp("images") / "data")


@pytest.fixture
def make_config(data, tmp_path):
  def make(**changes):
    config = pretrain_common.get_config()
    values = {
      "dataset.name": "image_folder",
      "dataset.path": str(data),
      "dataset.resize_size": tiny.SIZE,
      "dataset.image_size": tiny.SIZE,
      "model.name": "small_cnn",
      "pretrain.projector": (16, 8),
      "train.num_epochs": 2,
      "train.warmup_epochs": 1,
      "train.batch_size": 8,
      "probe.every_epochs": 1,
      "system.num_devices": 1,
      "system.num_workers": 2,
      "system.cache_dir": str(tmp_path / "cache"),
    }
    changes = {name.replace("__", "."): v for name, v in changes.items()}
    config.update_from_flattened_dict({**values, **changes})
    return config.lock()

  return make


@pytest.fixture
def tiny_network(monkeypatch):
  """Draws always the same network, so that its programs compile once."""
  backbone = networks.make_backbone(use_norm=False)._replace(name="small_cnn")
  monkeypatch.setattr(models, "load_or_draw", lambda *_, **__: backbone)


class TestRun:
  @pytest.fixture
  def folder(self, tmp_path):
    return epath.Path(tmp_path / "run")

  def test_leaves_weights_that_every_configuration_loads(
    self, make_config, data, folder, tmp_path, monkeypatch
  ):
    """With the features that the trained network had."""
    states, run = [], loop.run

    def keep(*args, **options):
      states.append(run(*args, **options))
      return states[0]

    monkeypatch.setattr(loop, "run", keep)
    config = make_config()
    pretrain.run(config, folder)
    weights = folder / pretrain.WEIGHTS_FILE
    finetuned = tiny.make_config(
      data, weights, tmp_path / "cache", train__scope="all"
    )
    loaded = experiment.load(finetuned).backbone
    (state,) = states
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3))
    images = images.astype(np.uint8)
    np.testing.assert_array_equal(
      loaded.apply(loaded.variables, images),
      loaded.apply(loop.variables_of(state), images),
    )
    random = models.create(
      "small_cnn", weights=None, image_size=tiny.SIZE
    ).fingerprint
    assert loaded.fingerprint != random

  @pytest.mark.usefixtures("tiny_network")
  def test_leaves_records_and_picture_and_no_checkpoint(
    self, make_config, folder, capsys
  ):
    pretrain.run(make_config(), folder)
    names = {path.name for path in folder.iterdir()}
    assert names == {
      "backbone.safetensors",
      "config.json",
      "data.json",
      "epochs.jsonl",
      "loss_curve.png",
    }
    assert [record["epoch"] for record in journal.read(folder)] == [0, 1, 2]
    said = capsys.readouterr().out
    assert "simclr of small_cnn on 32 images" in said
    assert said.count("knn accuracy") == 3

  @pytest.mark.usefixtures("tiny_network")
  def test_finished_run_is_shown_and_not_repeated(
    self, make_config, folder, capsys, monkeypatch
  ):
    pretrain.run(make_config(), folder)
    before = (folder / pretrain.WEIGHTS_FILE).read_bytes()
    capsys.readouterr()
    monkeypatch.setattr(step, "pretrain_step", None)
    pretrain.run(make_config(), folder)
    assert "finished run" in capsys.readouterr().out
    assert (folder / pretrain.WEIGHTS_FILE).read_bytes() == before

  @pytest.mark.usefixtures("tiny_network")
  def test_stopped_run_continues_to_the_same_weights(
    self, make_config, tmp_path, monkeypatch
  ):
    whole, stopped = (epath.Path(tmp_path / name) for name in ("a", "b"))
    config = make_config(system__checkpoint_seconds=0.0)
    pretrain.run(config, whole)
    answers = iter([False] * 4 + [True])
    with monkeypatch.context() as patch:
      patch.setattr(processes, "is_stopping", lambda: next(answers))
      with pytest.raises(processes.PreemptedError):
        pretrain.run(config, stopped)
    assert not (stopped / pretrain.WEIGHTS_FILE).exists()
    pretrain.run(config, stopped)
    first, other = (
      (folder / pretrain.WEIGHTS_FILE).read_bytes()
      for folder in (whole, stopped)
    )
    assert first == other

  @pytest.mark.usefixtures("tiny_network")
  def test_refuses_the_folder_of_other_settings(self, make_config, folder):
    pretrain.run(make_config(), folder)
    with pytest.raises(ValueError, match="train.num_epochs: 2 there, 3 now"):
      pretrain.run(make_config(train__num_epochs=3), folder)

  def test_says_what_is_wrong_before_it_makes_a_folder(
    self, make_config, folder
  ):
    with pytest.raises(ValueError, match="Unknown objective 'byol'"):
      pretrain.run(make_config(pretrain__objective="byol"), folder)
    assert not folder.exists()

  @pytest.mark.usefixtures("tiny_network")
  def test_claims_nothing_for_data_that_do_not_fit(self, make_config, folder):
    with pytest.raises(ValueError, match="<= 32 training images, got 64"):
      pretrain.run(make_config(train__batch_size=64), folder)
    pretrain.run(make_config(), folder)

  @pytest.mark.usefixtures("tiny_network")
  def test_reads_every_field(self, make_config, folder, monkeypatch):
    """Apart from the check, which reads all that it knows."""
    monkeypatch.setattr(pretraining, "check", lambda config: None)
    config = make_config()
    seen = set()
    pretrain.run(Watched(config, "", seen), folder)
    fields = {name for name, _ in tiny.leaves(config.to_dict())}
    # Those of the data are the fields of all configurations, for all sources.
    unread = {name for name in fields - seen if not name.startswith("dataset.")}
    assert unread == set()
    assert {"dataset.path", "dataset.resize_size"} <= seen


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


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
class TestMain:
  @pytest.fixture(autouse=True)
  def restore_flags(self):
    level = logging.get_absl_logger().level
    with flagsaver.flagsaver():
      yield
    logging.get_absl_logger().setLevel(level)

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
      pretrain.main(config_flag.parse(argv))
      return calls[0]

    return call

  def test_gives_run_the_configuration_and_the_folder(self, call):
    config, folder = call("--config.pretrain.projector=(64, 32)")
    assert folder == epath.Path("a/b")
    assert config.pretrain.projector == (64, 32)
    assert flags.FLAGS["config"].value.is_locked

  def test_refuses_arguments(self, call):
    with pytest.raises(Exception, match="only flags"):
      call("extra")

  def test_names_a_field_that_does_not_exist(self, call):
    with pytest.raises(SystemExit) as exit_:
      call("--config.pretrain.objectiv=simclr")
    assert 'Did you mean "objective"' in exit_.value.code
