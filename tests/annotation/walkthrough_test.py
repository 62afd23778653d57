"""A whole session of a person at the labeling page, on real photos.

  python -m pytest -m slow tests/annotation/walkthrough_test.py --basetemp=DIR

Grocery Store with the labels of its pool hidden: three rounds, each query
answered at the keyboard of a real browser. docs/walkthrough.md tells of it; DIR
then holds its pictures.
"""

import csv
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from decern_jax.annotation import answers, query
from decern_jax.runs import records
from tests import interruptible
from tests.annotation.page.asked import ROOT, start_label
from tests.annotation.page.browser import Browser, start
from tests.annotation.page.driving import options, wait_for

pytestmark = pytest.mark.slow

NUM_ROUNDS = 3
BUDGET = 81
WEIGHTS = "weights/mobilenet_v2_imagenet.safetensors"


def hide(source: pathlib.Path, folder: pathlib.Path) -> dict[str, str]:
  """Copies a labeled folder, the pool's images by numbers; returns classes."""
  shutil.copytree(source / "test", folder / "test")
  photos = sorted((source / "train").glob("*/*.jpg"), key=lambda p: p.name)
  (folder / "photos").mkdir()
  class_of = {}
  for number, photo in enumerate(photos):
    id_ = f"photos/{number:04d}.jpg"
    shutil.copyfile(photo, folder / id_)
    class_of[id_] = photo.parent.name
  return class_of


def write_table(folder: pathlib.Path, class_of: dict[str, str]) -> pathlib.Path:
  """Writes all labels, for the run that simulates the person."""
  held_out = sorted((folder / "test").glob("*/*.jpg"))
  rows = [(id_, "train", name) for id_, name in sorted(class_of.items())]
  rows += [
    (photo.relative_to(folder).as_posix(), "test", photo.parent.name)
    for photo in held_out
  ]
  path = folder / "labels.csv"
  with open(path, "w", newline="") as file:
    csv.writer(file).writerows([("path", "split", "label"), *rows])
  return path


def run_main(config: str, workdir: pathlib.Path, **values) -> str:
  """Runs the command, and returns what it says."""
  flags = {
    "num_rounds": NUM_ROUNDS,
    "selection.initial_budget": BUDGET,
    "selection.budget": BUDGET,
    **{name.replace("__", "."): value for name, value in values.items()},
  }
  command = interruptible.command(
    *(sys.executable, "-m", "decern_jax.main", f"--config={config}"),
    f"--workdir={workdir}",
    *(f"--config.{name}={value}" for name, value in flags.items()),
  )
  done = subprocess.run(
    command,
    cwd=ROOT,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def answer_query(browser: Browser, names: list[str]) -> int:
  """Answers all images of a query at the keyboard; returns the keystrokes."""
  num_keys = 0
  for index, name in enumerate(names):
    wait_for(browser, index)
    digit = {row[1]: row[0] for row in options(browser) if len(row) > 1}
    # One digit if the model, or the order of the classes, offers it.
    keys = [digit[name]] if name in digit else ["/", *name, "Enter"]
    for key in keys:
      browser.press(key)
    num_keys += len(keys)
  browser.wait(
    f"document.querySelector('#count').innerText.includes('{len(names)} answ')"
  )
  return num_keys


def test_a_person_at_the_page_is_the_simulated_run(tmp_path, shared_dir):
  folder, where = tmp_path / "groceries", tmp_path / "run"
  folder.mkdir()
  class_of = hide(shared_dir / "data" / "grocery_store", folder)
  values = {
    "model__weights": os.fspath(shared_dir / WEIGHTS),
    "system__cache_dir": os.fspath(tmp_path / "cache"),
  }
  said = [
    run_main("configs/my_images.py", where, **values, dataset__path=folder)
  ]
  keys = []
  for round_num in range(NUM_ROUNDS):
    items = query.read(where, round_num).items
    process, url = start_label(where)
    with start(tmp_path / "chromium") as browser:
      browser.open(url)
      wait_for(browser, 0)
      browser.screenshot(tmp_path / f"page_{round_num}.png")
      keys.append(answer_query(browser, [class_of[i.id] for i in items]))
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)
    if process.stdout:
      process.stdout.close()
    said.append(
      run_main("configs/my_images.py", where, **values, dataset__path=folder)
    )
  with start(tmp_path / "chromium", height=2400) as browser:
    browser.open((where / "report" / "report.html").as_uri())
    browser.screenshot(tmp_path / "report.png")
  table = write_table(folder, class_of)
  simulated = tmp_path / "simulated"
  said.append(
    run_main(
      "configs/label_file.py",
      simulated,
      **values,
      dataset__path=table,
      dataset__resize_size=256,
      dataset__image_size=224,
      model__name="mobilenet_v2",
      selection__strategy="decern",
      selection__initial_strategy="typiclust",
    )
  )
  told = "\n".join([*said, f"keystrokes: {keys}"])
  (tmp_path / "said.txt").write_text(told)
  ours, theirs = records.read(where), records.read(simulated)
  assert len(ours) == NUM_ROUNDS
  for name in ("num_labeled", "test", "train", "selected", "scores"):
    assert [r[name] for r in ours] == [r[name] for r in theirs], name
  found = answers.read_log(where / "labels" / "answers.jsonl").answers
  assert {a.id: a.labels for a in found} == {
    item.id: (class_of[item.id],)
    for round_num in range(NUM_ROUNDS)
    for item in query.read(where, round_num).items
  }
