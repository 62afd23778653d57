"""Tests of the flags of decern_jax/predict.py, in this process."""

import sys

from absl import flags, logging
from absl.testing import flagsaver
import pytest

from decern_jax.cli import config_flag, predict


class TestMain:
  @pytest.fixture
  def call(self, monkeypatch):
    """Returns what `predict` is called with."""

    def call(*arguments):
      calls = []
      monkeypatch.setattr(
        predict,
        "predict",
        lambda *args, **options: calls.append((args, options)),
      )
      argv = ["predict", *arguments]
      monkeypatch.setattr(sys, "argv", argv)
      predict.main(flags.FLAGS(argv))
      return calls[0]

    level = logging.get_absl_logger().level
    with flagsaver.flagsaver():
      yield call
    logging.get_absl_logger().setLevel(level)

  def test_flags_have_defaults(self, call):
    assert call("--workdir=run", "--images=a", "--output=b.csv") == (
      ("run", "a", "b.csv"),
      {"top": 5, "batch_size": 64, "num_workers": None},
    )

  def test_passes_options(self, call):
    _, options = call(
      "--workdir=run", "--top=2", "--batch_size=3", "--num_workers=4"
    )
    assert options == {"top": 2, "batch_size": 3, "num_workers": 4}


class TestWorkdirFlag:
  def test_is_that_of_either_command(self):
    """Both modules define it, whichever is imported first."""
    with flagsaver.flagsaver(workdir="here"):
      assert predict._WORKDIR.value == config_flag.WORKDIR.value == "here"
