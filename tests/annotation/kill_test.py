"""Test that nothing is lost of a run with people that is killed, and killed."""

import pathlib
import signal
import time

import numpy as np
import pytest

from decern_jax.annotation import answers, inbox, query
from decern_jax.annotation.state import Answer
from decern_jax.io import storage
from decern_jax.runs import records, workdir
from tests import tiny
from tests.annotation import hidden
from tests.annotation import people_loop as loop

NUM_KILLS = 100
# Most kills come after the folder is locked, which is when the work begins.
MAX_DELAY = 4.0
SEED = 7


def kill(folder: pathlib.Path, where: str, delay: float) -> bool:
  """Kills a run a while after it began to work; says whether it was alive."""
  with loop.start(folder, where) as process:
    lock = folder / where / workdir.LOCK_FILE
    holder = f"process {process.pid} on"
    while process.poll() is None and not (
      storage.lock_holder(lock).startswith(holder)
    ):
      time.sleep(0.01)
    time.sleep(delay)
    was_alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
  return was_alive


class Person:
  """Answers a few images at a time; a line may be cut off, and written again.

  Attributes:
    said: All answers that were written whole.
  """

  def __init__(self, where: pathlib.Path, class_of: dict[str, str]):
    self._where, self._class_of = where, class_of
    self.said: dict[str, Answer] = {}

  def answer_some(self, rng: np.random.Generator) -> None:
    if query.latest_round(self._where) is None:
      return
    left = [
      item.id
      for item in hidden.asked(self._where).items
      if item.id not in self.said
    ]
    for id_ in left[: rng.integers(0, 4)]:
      given = Answer(id_, (self._class_of[id_],), "me", str(len(self.said)))
      if rng.random() < 0.3:
        cut = answers.to_line(given)[: rng.integers(1, 20)] + b"\n"
        path = self._where / query.ANSWERS_FOLDER / "me.jsonl"
        with open(path, "ab") as file:
          file.write(cut)
      hidden.respond(self._where, [given])
      self.said[id_] = given


@pytest.mark.slow
class TestKill:
  def test_loses_nothing(self, tmp_path):
    class_of = hidden.write_images(tmp_path / "images", num_pool=loop.NUM_POOL)
    tiny.write_weights(tmp_path / "weights.safetensors")
    loop.finish(tmp_path, "whole", class_of)
    expected = tiny.without_costs(records.read(tmp_path / "whole"))
    assert len(expected) == loop.NUM_ROUNDS
    rng, num_alive = np.random.default_rng(SEED), 0
    person = Person(tmp_path / "killed", class_of)
    for _ in range(NUM_KILLS):
      num_alive += kill(tmp_path, "killed", rng.uniform(0, MAX_DELAY))
      found = tiny.without_costs(records.read(tmp_path / "killed"))
      assert found == expected[: len(found)]
      person.answer_some(rng)
    assert num_alive > NUM_KILLS // 4
    loop.finish(tmp_path, "killed", class_of)
    assert tiny.without_costs(records.read(tmp_path / "killed")) == expected
    kept = answers.read_log(tmp_path / "killed" / inbox.LOG).answers
    kept = {given._replace(source="") for given in kept}
    assert set(person.said.values()) <= kept
