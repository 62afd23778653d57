"""Tests of the flags of decern_jax/main.py, in this process."""

import os
import re
import sys

from absl import flags, logging
from absl.testing import flagsaver
from etils import epath
import pytest

from decern_jax.cli import command, main
from decern_jax.io import storage
from decern_jax.runs import workdir
from tests import tiny
from tests.table import each


@pytest.mark.usefixtures("restored_flags")
class TestMain:
  @pytest.fixture
  def parse(self, monkeypatch):
    """Parses flags as a new process does, whatever was parsed before."""
    unparsed = flagsaver.save_flag_values()

    def parse(*arguments, config="configs/quickstart.py"):
      flagsaver.restore_flag_values(unparsed)
      argv = ["main", f"--config={tiny.ROOT / config}", *arguments]
      monkeypatch.setattr(sys, "argv", argv)
      return command.parse(argv)

    monkeypatch.chdir(tiny.ROOT)
    return parse

  def test_refuses_arguments(self, parse):
    rest = parse("extra")
    with pytest.raises(SystemExit, match=r"only flags, got \['extra'\]"):
      main.main(rest)

  @each(
    "flag, message",
    [
      ("--config.train.lr=1", "configuration: 'lr'"),
      ("--config.trian.lr=1", "configuration: 'trian'"),
      ("--config.train.learning_rat=1", 'Did you mean "learning_rate"'),
    ],
  )
  def test_names_a_field_that_does_not_exist(self, parse, flag, message):
    with pytest.raises(SystemExit) as exit_:
      parse(flag)
    assert message in exit_.value.code

  def test_names_an_unknown_flag_without_traceback(self, parse):
    with pytest.raises(
      SystemExit, match="^error: Unknown command line .* 'lr'"
    ):
      parse("--lr=1")

  @each(
    "config, flags_, message",
    [
      (
        "configs/image_folder.py",
        ["--config.seeds=(3, 3)"],
        "error: Expected distinct `seeds`, at least one, got (3, 3)",
      ),
      # A field that must be set.
      ("configs/common.py", [], "error: Unknown dataset None; expected one of"),
      (
        "configs/cub.py",
        ["--config.dataset.path=."],
        "decern-jax prepare caltech_birds2011",
      ),
    ],
  )
  def test_refuses_before_anything_is_written(
    self, parse, monkeypatch, tmp_path, config, flags_, message
  ):
    argv = parse(*flags_, config=config)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
      main.main(argv)
    assert message in exit_.value.code
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]

  def test_refuses_a_folder_in_a_store_that_cannot_be_reached(
    self, parse, monkeypatch
  ):
    def refuse(path):
      raise ValueError(f"Expected access to {path}, got 403.")

    monkeypatch.setattr(storage, "check_reachable", refuse)
    argv = parse("--workdir=gs://bucket/run")
    with pytest.raises(SystemExit) as exit_:
      main.main(argv)
    assert (
      exit_.value.code == "error: Expected access to gs://bucket/run, got 403."
    )

  def test_raises_what_a_configuration_file_raises(self, parse, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def get_config():\n  return ''.nothing\n")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
      parse(config=file)

  def test_locks_the_configuration(self, parse):
    parse()
    config = flags.FLAGS["config"].value
    assert config is not None
    assert config.is_locked

  @pytest.fixture
  def run_with(self, monkeypatch, parse):
    """Returns what `run` is called with."""

    def run_with(*arguments):
      calls = []
      monkeypatch.setattr(
        main, "run", lambda *args, **options: calls.append(args)
      )
      main.main(parse(*arguments))
      return calls[0]

    return run_with

  def test_gives_run_the_configuration_and_the_folder(self, run_with):
    config, parent = run_with("--config.num_rounds=2", "--workdir=a/b")
    assert config.num_rounds == 2
    assert parent == epath.Path("a/b")

  def test_seeds_are_a_tuple(self, run_with):
    config, parent = run_with("--config.seeds=(1, 11)")
    assert config.seeds == (1, 11)
    assert parent is None

  def test_is_silent_unless_asked(self, run_with):
    run_with()
    assert logging.get_verbosity() == logging.WARNING
    run_with("--verbosity=1")
    assert logging.get_verbosity() == logging.DEBUG

  @each(
    "error, message",
    [
      (ValueError("Expected `x` > 0, got 0."), "error: Expected `x` > 0, got"),
      (OSError(28, "No space left"), "error: [Errno 28] No space left"),
      (KeyboardInterrupt(), "the same command continues"),
    ],
  )
  def test_ends_in_a_line_without_traceback(
    self, parse, monkeypatch, error, message
  ):
    def fail(*unused, **options):
      raise error

    monkeypatch.setattr(main, "run", fail)
    with pytest.raises(SystemExit) as exit_:
      main.main(parse())
    assert message in exit_.value.code

  def test_shows_the_traceback_of_a_fault(self, parse, monkeypatch):
    monkeypatch.setattr(main, "run", lambda *unused, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      main.main(parse())

  def default_folders(
    self, monkeypatch, parse, *arguments, **options
  ) -> list[str]:
    """Returns the folders that a command runs in, without running it."""
    found = []

    def stop(folder, settings, *, file_name):
      found.append(os.fspath(folder))
      config = flags.FLAGS["config"].value
      assert config is not None
      if len(found) == len(config.seeds):
        raise ValueError("stopped")

    monkeypatch.setattr(workdir, "check_free", stop)
    with pytest.raises(SystemExit):
      main.main(parse(*arguments, **options))
    return found

  def test_default_folder_tells_config_strategy_and_seed(
    self, monkeypatch, parse
  ):
    found = self.default_folders(monkeypatch, parse, "--config.seeds=(1, 11)")
    pattern = r"runs/quickstart/decern-[0-9a-f]{8}/seed"
    assert re.fullmatch(f"{pattern}1", found[0])
    assert found[1] == found[0] + "1"

  def test_default_folder_changes_with_a_setting(self, monkeypatch, parse):
    (before,) = self.default_folders(monkeypatch, parse)
    (after,) = self.default_folders(
      monkeypatch, parse, "--config.train.num_epochs=100"
    )
    assert before != after

  def test_default_folder_is_that_of_the_default_written_out(
    self, monkeypatch, parse
  ):
    (before,) = self.default_folders(monkeypatch, parse)
    (after,) = self.default_folders(
      monkeypatch, parse, "--config.train.num_epochs=200"
    )
    assert before == after

  @each(
    "config, name",
    [
      ("configs/cub.py", "cub"),
      ("configs/cub.py:resnet50", "cub-resnet50"),
      (
        "configs/paper.py:oxford_flowers102/resnet50/2x",
        "paper-oxford_flowers102-resnet50-2x",
      ),
    ],
  )
  def test_default_folder_names_the_argument_of_the_configuration(
    self, monkeypatch, parse, config, name
  ):
    flag = "--config.seeds=(1,)"
    (found,) = self.default_folders(monkeypatch, parse, flag, config=config)
    assert re.fullmatch(rf"runs/{name}/decern-[0-9a-f]{{8}}/seed1", found)

  def test_unknown_setting_of_the_paper_is_named(self, parse):
    with pytest.raises(SystemExit, match="Unknown variant 'vgg/3x'"):
      parse(config="configs/paper.py:food101/vgg/3x")

  def test_unknown_file_is_named(self, parse):
    with pytest.raises(SystemExit, match="No such file: .*configs/nowhere.py'"):
      parse(config="configs/nowhere.py")

  @each("required", [("workdir",), ("go_on", "workdir")])
  def test_names_missing_flags(self, monkeypatch, required):
    argv = ["main"]
    monkeypatch.setattr(sys, "argv", argv)
    names = ", ".join(f"--{name}" for name in required)
    with pytest.raises(SystemExit, match=f"^error: Expected {names}, got none"):
      command.parse(argv, required=required)
