"""Runs that ask about a few images, for the tests of the page."""

import contextlib
import os
import pathlib
import re
import subprocess
import sys
import threading

import numpy as np
from PIL import Image

from decern_jax.annotation import query
from decern_jax.annotation.page.current_query import CurrentQuery
from decern_jax.annotation.page.server import PageAddress, Server
from tests import interruptible

ROOT = pathlib.Path(__file__).parents[3]
CLASSES = ("Apple", "Pear", "Red-Apple", "Zebra")
NUM_IMAGES = 6
TOKEN = "a" * 32

# Hard names: of another folder, with quotes, a line break, and no valid text.
IDS = (
  "plain.png",
  "a folder/with spaces.png",
  "quo'te\"s.png",
  "line\nbreak.png",
  "grün \N{CAT FACE}.png",
  "not text \udcff.png",
)


def write_images(folder: pathlib.Path) -> list[pathlib.Path]:
  """Writes images, each of one color of its own."""
  folder.mkdir(parents=True, exist_ok=True)
  paths = [folder / f"{i}.png" for i in range(NUM_IMAGES)]
  for i, path in enumerate(paths):
    pixels = np.full((24, 32, 3), (40 * i, 90, 200 - 30 * i), np.uint8)
    Image.fromarray(pixels).save(path)
  return paths


def make_query(folder: pathlib.Path, **changes) -> query.Query:
  """Returns a query over images that are written into a folder."""
  items = tuple(
    query.Item(id_, os.fspath(path), 0.5, (("Pear", 0.75), ("Zebra", 0.125)))
    for id_, path in zip(IDS, write_images(folder), strict=True)
  )
  asked = query.Query(
    round=3,
    class_names=CLASSES,
    is_multi_label=False,
    items=items,
    strategy="margin",
  )
  return asked._replace(**changes)


def write_run(folder: pathlib.Path, **changes) -> pathlib.Path:
  """Writes a run that asks, and returns its folder."""
  query.write(folder / "run", make_query(folder / "images", **changes))
  return folder / "run"


@contextlib.contextmanager
def serve(workdir: pathlib.Path, *, port: int = 0, token: str = TOKEN):
  """Serves the page of a run in this process; yields its server."""
  with Server(PageAddress(port, token), CurrentQuery(workdir, "Ada")) as server:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
      yield server
    finally:
      server.shutdown()
      thread.join()


def start_label(
  workdir: pathlib.Path, *flags: str
) -> tuple[subprocess.Popen, str]:
  """Starts the command; returns its process and the address that it prints."""
  process = subprocess.Popen(
    interruptible.command(
      *(sys.executable, "-m", "decern_jax.label"),
      *(f"--workdir={workdir}", "--annotator=Ada", *flags),
    ),
    env={**os.environ, "PYTHONPATH": os.fspath(ROOT), "JAX_PLATFORMS": "cpu"},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  assert process.stdout
  said = ""
  for line in process.stdout:
    said += line
    if found := re.search(r"http://\S+", line):
      return process, found[0]
  process.wait()
  process.stdout.close()
  raise RuntimeError(said)
