"""Tests of a run with people when something is odd, or goes wrong.

docs/faults.md lists what was tried, with these tests as its commands.
"""

import errno
import itertools
import os
import subprocess
import time

import cv2
import numpy as np
from PIL import Image
import pytest

from decern_jax.annotation import answers, inbox, query
from decern_jax.annotation.formats import FORMATS
from decern_jax.annotation.state import Answer
from decern_jax.io import storage
from decern_jax.runs import records
from tests import tiny
from tests.annotation import hidden
from tests.annotation import people_loop as loop
from tests.annotation.hidden import BUDGET, asked, respond, respond_truly

ODD_NAMES = (
  "with spaces.png",
  "quo'te\"s.png",
  "line\nbreak.png",
  "tab\tand, comma; semicolon.png",
  "grün \N{CAT FACE}.png",
  "e\N{COMBINING ACUTE ACCENT}.png",
  "<b>bold & more.png",
  "%41 #1?.png",
  "=SUM(A1).png",
  "-rf.png",
  "back\\slash.png",
  "not text \udcff.png",
)


def turned() -> Image.Exif:
  exif = Image.Exif()
  exif[0x0112] = 6
  return exif


ODD_IMAGES = {
  "one_pixel.png": lambda path: Image.new("RGB", (1, 1)).save(path),
  "one_row.png": lambda path: Image.new("RGB", (4000, 1)).save(path),
  "huge.jpg": lambda path: Image.new("RGB", (8000, 6000)).save(path),
  "cmyk.jpg": lambda path: Image.new("CMYK", (40, 30), 9).save(path),
  "grey16.png": lambda path: Image.new("I;16", (40, 30), 999).save(path),
  "palette.gif": lambda path: Image.new("P", (40, 30), 3).save(path),
  "alpha.png": lambda path: Image.new("RGBA", (40, 30)).save(path),
  "turned.jpg": lambda path: Image.new("RGB", (40, 30)).save(
    path, exif=turned()
  ),
}
NO_IMAGES = {
  "empty.png": b"",
  "text.jpg": b"this is no image",
  "bomb.png": tiny.png_header(60_000, 60_000),
  "cut.png": tiny.png_header(40, 30),
}


def encode(image: np.ndarray) -> bytes:
  return cv2.imencode(".png", image)[1].tobytes()


class TestOddNames:
  def test_go_all_the_way(self, tmp_path, where, start):
    images = tmp_path / "images"
    shuffled = hidden.write_images(images)
    # Some of the photos, whose number stays the same, get the odd names.
    class_of = {}
    for (id_, label), name in itertools.zip_longest(
      shuffled.items(), ODD_NAMES
    ):
      new = f"photos/{name}" if name else id_
      (images / id_).rename(images / new)
      class_of[new] = label
    changes = {
      # A list for CVAT has a path on a line, and refuses a break in it.
      "labels__formats": tuple(name for name in FORMATS if name != "cvat"),
      "dataset__path": os.fspath(images),
      "selection__initial_budget": 12,
      "selection__budget": 12,
      "num_rounds": 2,
    }
    start(**changes)
    for _ in range(2):
      respond_truly(where, class_of)
      output = start(**changes)
    assert "All rounds are done" in output
    kept = answers.read_log(where / inbox.LOG).answers
    assert {a.id: a.labels for a in kept} == {
      name: (label,) for name, label in class_of.items()
    }

  def test_a_query_that_a_format_cannot_hold_is_written_in_another(
    self, tmp_path, start, where
  ):
    images = tmp_path / "images"
    images.mkdir()
    for name in ("line\nbreak.png", "a.png", "b.png", "c.png"):
      (images / name).write_bytes(encode(np.zeros((40, 40, 3))))
    changes = {
      "dataset__path": os.fspath(images),
      "labels__class_names": ("x", "y"),
    }
    with pytest.raises(ValueError, match="Expected paths of one line"):
      start(labels__formats=("cvat",), **changes)
    start(labels__formats=("csv",), **changes)
    assert len(asked(where).items) == BUDGET


class TestOddImages:
  def test_are_asked_about_and_no_images_are_left_out_by_name(
    self, tmp_path, start, where, caplog
  ):
    # Less than one in twenty is no image, as the run allows.
    num_plain = 20 * len(NO_IMAGES)
    plain = hidden.write_images(tmp_path / "images", num_pool=num_plain)
    photos = tmp_path / "images" / "photos"
    for name, write in ODD_IMAGES.items():
      write(photos / name)
    for name, content in NO_IMAGES.items():
      (photos / name).write_bytes(content)
    start(
      dataset__path=os.fspath(tmp_path / "images"),
      selection__initial_budget=num_plain + len(ODD_IMAGES),
    )
    ids = {item.id for item in asked(where).items}
    assert ids == {*plain, *(f"photos/{name}" for name in ODD_IMAGES)}
    for name in NO_IMAGES:
      assert name in caplog.text


class TestClock:
  def test_going_backwards_changes_nothing(
    self, true_run, where, start, copy_stage, monkeypatch
  ):
    copy_stage(0)
    items = asked(where).items
    first = items[0].id
    # A later answer has an earlier time, in a file that is older by its date.
    wrong, right = sorted(tiny.CLASSES)[0], sorted(tiny.CLASSES)[1]
    respond(where, [Answer(first, (wrong,), "me", "2026-05-02T00:00:00Z")])
    start()
    respond(
      where,
      [Answer(first, (right,), "me", "2026-05-01T00:00:00Z")],
      "earlier.jsonl",
    )
    os.utime(where / query.ANSWERS_FOLDER / "earlier.jsonl", (0, 0))
    respond(
      where, [Answer(i.id, (true_run.class_of[i.id],)) for i in items[1:]]
    )
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 1e8)
    assert "round 0: 4 labeled" in start()
    labels = (where / "labels" / "round-0000.json").read_text()
    assert f'"{first}": [\n   "{right}"' in labels


class Disk:
  """Has room for so many writes; the next fails in its middle."""

  def __init__(self, monkeypatch):
    self.left, self.num_writes = None, 0
    for name in ("write_atomically", "append"):
      monkeypatch.setattr(storage, name, self._limit(getattr(storage, name)))

  def _limit(self, write):
    def limited(path, content):
      self.num_writes += 1
      if self.left == 0:
        if write.__name__ == "append":
          write(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device", os.fspath(path))
      if self.left is not None:
        self.left -= 1
      write(path, content)

    return limited


class TestFullDisk:
  """Every write of a run fails once, and the command is run again."""

  def test_nothing_is_lost(self, true_run, where, start, monkeypatch):
    disk = Disk(monkeypatch)
    num_failed = self._run_with_ever_more_room(disk, start)
    respond_truly(where, true_run.class_of)
    num_failed += self._run_with_ever_more_room(disk, start)
    assert num_failed >= 15
    assert disk.num_writes >= num_failed
    respond_truly(where, true_run.class_of)
    start()
    assert tiny.without_costs(records.read(where)) == tiny.without_costs(
      records.read(true_run.stages[2])
    )

  def _run_with_ever_more_room(self, disk, start) -> int:
    """Runs until nothing fails; returns how often something did."""
    room, is_full = -1, True
    while is_full:
      disk.left = room = room + 1
      try:
        start()
        is_full = False
      except OSError as error:
        if error.errno != errno.ENOSPC:
          raise
    disk.left = None
    return room


@pytest.mark.slow
class TestRealFullDisk:
  """The command on a disk that is too small, then grows."""

  @pytest.fixture
  def disk(self, tmp_path):
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", mount]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
      pytest.skip("no right to mount a disk")
    yield mount
    subprocess.run(["umount", mount], check=True)

  def test_the_run_goes_on_when_there_is_room(self, tmp_path, disk):
    folder = tmp_path
    tiny.write_weights(folder / "weights.safetensors")
    class_of = hidden.write_images(folder / "images", num_pool=loop.NUM_POOL)
    size, num_full = 16, 0
    for _ in range(loop.NUM_ROUNDS + 1):
      while True:
        with loop.start(folder, os.fspath(disk / "run")) as process:
          output, _ = process.communicate(timeout=600)
        assert "Traceback" not in output
        if process.returncode == 0:
          break
        assert "space" in output, output
        num_full, size = num_full + 1, size * 2
        remount = ["mount", "-o", f"remount,size={size}k", disk]
        subprocess.run(remount, check=True)
      if "All rounds are done" in output:
        break
      respond_truly(disk / "run", class_of)
    assert num_full >= 2
    loop.finish(folder, "whole", class_of)
    assert tiny.without_costs(records.read(disk / "run")) == tiny.without_costs(
      records.read(folder / "whole")
    )


@pytest.mark.slow
class TestManyFiles:
  NUM_FILES = 100_000

  def test_are_listed_embedded_and_asked_about(self, tmp_path, where, start):
    rng = np.random.default_rng(0)
    for number in range(self.NUM_FILES):
      path = tmp_path / "images" / f"{number // 1000:03d}" / f"{number}.jpg"
      path.parent.mkdir(parents=True, exist_ok=True)
      image = tiny.draw(number % len(tiny.CLASSES), rng)
      path.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
    changes = {
      "dataset__path": os.fspath(tmp_path / "images"),
      "selection__strategy": "decern",
      "num_rounds": 2,
    }
    start(**changes)
    for _ in range(2):
      items = asked(where).items
      assert len(items) == BUDGET
      names = {
        i.id: tiny.CLASSES[int(i.id[4:-4]) % len(tiny.CLASSES)] for i in items
      }
      respond_truly(where, names)
      said = start(**changes)
    assert "All rounds are done" in said
