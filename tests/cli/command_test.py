"""Tests of decern_jax/cli/command.py."""

from absl import flags, logging
from absl.testing import flagsaver
import jax
import pytest

from decern_jax.cli import command
from decern_jax.distributed import processes
from tests.table import each


@pytest.fixture(autouse=True)
def restore_flags():
  level = logging.get_absl_logger().level
  with flagsaver.flagsaver():
    flags.FLAGS(["program"])
    yield
  logging.get_absl_logger().setLevel(level)


def run_failing(error: BaseException) -> None:
  def work() -> None:
    raise error

  command.run(["program"], work, if_interrupted="Stopped.")


class TestOneOfSeveral:
  """A process that fails must not wait for those who wait for it."""

  @pytest.fixture(autouse=True)
  def several(self, monkeypatch):
    def leave(status):
      raise SystemExit(status)

    monkeypatch.setattr(processes, "are_several", lambda: True)
    monkeypatch.setattr(processes, "leave", leave)

  @each(
    "error, said",
    [
      (
        ValueError("Expected 1, got 2."),
        "process 0: error: Expected 1, got 2.",
      ),
      (KeyboardInterrupt(), "process 0: Stopped."),
      (KeyError("x"), "Traceback"),
      (jax.errors.JaxRuntimeError("no memory"), "Traceback"),
    ],
  )
  def test_leaves_at_once(self, error, said, capsys):
    with pytest.raises(SystemExit) as exit_:
      run_failing(error)
    assert exit_.value.code == 1
    assert capsys.readouterr().err.startswith(said)

  def test_others_than_the_first_say_nothing(self, capsys, monkeypatch):
    monkeypatch.setattr(processes, "is_process_zero", lambda: False)
    processes.say("Seed 1:")
    assert capsys.readouterr() == ("", "")


class TestSay:
  def test_prints_a_line(self, capsys):
    processes.say("Seed 1:")
    assert capsys.readouterr() == ("Seed 1:\n", "")


class TestRun:
  def test_works(self):
    calls = []
    command.run(["program"], lambda: calls.append(1), if_interrupted="")
    assert calls == [1]

  def test_rejects_arguments(self):
    with pytest.raises(SystemExit, match=r"only flags, got \['a', 'b'\]"):
      command.run(
        ["program", "a", "b"],
        lambda: pytest.fail("work began"),
        if_interrupted="",
      )

  @each(
    "error, message",
    [
      (ValueError("Expected `x` > 0, got 0."), "error: Expected `x` > 0, got"),
      (RuntimeError("The loss became nan."), "error: The loss became nan."),
      (OSError(28, "No space left"), "error: [Errno 28] No space left"),
      (KeyboardInterrupt(), "Stopped."),
    ],
  )
  def test_ends_in_a_line(self, error, message):
    with pytest.raises(SystemExit) as exit_:
      run_failing(error)
    assert str(exit_.value.code).startswith(message)

  @each(
    "error", [ZeroDivisionError(), jax.errors.JaxRuntimeError("out of memory")]
  )
  def test_a_fault_keeps_its_traceback(self, error):
    with pytest.raises(type(error)):
      run_failing(error)

  def test_sigterm_ends_it_with_the_status_to_retry_on(self, capsys):
    with pytest.raises(SystemExit) as exit_:
      run_failing(processes.PreemptedError())
    assert exit_.value.code == 75
    assert capsys.readouterr().out == "Stopped.\n"
