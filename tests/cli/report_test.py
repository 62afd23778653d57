"""Tests of decern_jax/cli/report.py."""

import importlib
import subprocess
import sys

from absl import flags, logging
from absl.testing import flagsaver
import pytest

from decern_jax.cli import predict
from tests import tiny
from tests.report import made_up

command = importlib.import_module("decern_jax.cli.report")

CURVES = {"random": {1: (0.3, 0.5)}, "margin": {1: (0.3, 0.6)}}


@pytest.fixture
def folder(tmp_path):
  return made_up.write_runs(tmp_path / "runs", CURVES)


class TestReport:
  def test_says_where_the_page_is(self, folder, tmp_path, capsys):
    command.report([folder], tmp_path / "out")
    assert capsys.readouterr().out == f"Report in {tmp_path}/out/report.html.\n"
    assert (tmp_path / "out/report.html").exists()

  def test_says_what_is_left_out(self, folder, tmp_path, capsys):
    found = made_up.make_records((0.3,))
    made_up.write_run(folder / "late", "decern", 1, found, num_rounds=2)
    command.report([folder], tmp_path / "out")
    assert capsys.readouterr().out.startswith(
      f"Left out, because not finished: {folder}/late (1 of 2 rounds)\n"
    )

  def test_knows_the_options_of_strategies(self, tmp_path):
    for gamma in (0.3, 0.8):
      made_up.write_run(
        tmp_path / f"{gamma}",
        "decern",
        1,
        made_up.make_records((0.3, 0.5)),
        selection__options__diversity_gamma=gamma,
      )
    command.report([tmp_path], tmp_path / "out")
    assert (
      "decern diversity_gamma=0.3" in (tmp_path / "out/summary.csv").read_text()
    )

  def test_rejects_no_folder(self, tmp_path):
    with pytest.raises(ValueError, match="folders of runs, got none"):
      command.report([], tmp_path)

  def test_writes_nothing_where_runs_cannot_be_compared(self, folder, tmp_path):
    found = made_up.make_records((0.3, 0.5))
    made_up.write_run(folder / "x", "decern", 1, found, train__scope="all")
    with pytest.raises(ValueError, match="train.scope: 'head' and 'all'"):
      command.report([folder / "random", folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()


class TestMain:
  @pytest.fixture
  def call(self):
    level = logging.get_absl_logger().level

    def call(*arguments):
      command.main(flags.FLAGS(["report", *arguments]))

    with flagsaver.flagsaver():
      yield call
    logging.get_absl_logger().setLevel(level)

  def test_takes_folders_and_an_output(self, call, folder, tmp_path):
    call(f"{folder}/random", f"--output={tmp_path}/out", f"{folder}/margin")
    assert "margin − random" in (tmp_path / "out/report.html").read_text()

  def test_takes_runs_on_all_labels(self, call, folder, tmp_path):
    records = made_up.make_records((0.9,), num_labeled=(12,))
    full = made_up.write_run(tmp_path / "full", "random", 1, records)
    call(f"{folder}", f"--output={tmp_path}/out", f"--full_data={full}")
    text = (tmp_path / "out/report.html").read_text()
    assert "90.0 % with all 12 labels (seeds 1)" in text
    assert "and all labels" in text

  def test_tells_a_mistake_in_a_line(self, call, tmp_path):
    with pytest.raises(SystemExit) as exit_:
      call(f"{tmp_path}/nothing", f"--output={tmp_path}/out")
    message = str(exit_.value.code)
    assert message.startswith("error: Expected a folder of runs")

  def test_its_flag_is_that_of_predict_too(self):
    """Both modules define it, whichever is imported first."""
    with flagsaver.flagsaver(output="here"):
      assert command._OUTPUT.value == predict._OUTPUT.value == "here"


class TestCommand:
  def run(self, *arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
      [sys.executable, "-m", "decern_jax.report", *map(str, arguments)],
      cwd=tiny.ROOT,
      capture_output=True,
      text=True,
      timeout=120,
      check=False,
    )

  def test_runs_as_a_module(self, folder, tmp_path):
    done = self.run(folder, f"--output={tmp_path}/out")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Report in {tmp_path}/out/report.html.\n"

  def test_needs_an_output(self, folder):
    done = self.run(folder)
    assert done.returncode == 1
    assert "--output" in done.stderr
