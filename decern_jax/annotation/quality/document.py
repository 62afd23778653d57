"""The report on a run with people: a folder with a page and its numbers."""

import base64
from collections.abc import Callable, Iterator, Sequence
import csv
import io
import json
from typing import Any

from etils import epath
from matplotlib import figure, ticker
import numpy as np
from PIL import Image

from decern_jax.annotation.quality import page
from decern_jax.annotation.quality.findings import Findings, HeldOut
from decern_jax.io import storage
from decern_jax.report import document as report_document
from decern_jax.report import figures, gallery

PAGE_FILE = "report.html"
JSON_FILE = "report.json"
FIGURE_FOLDER = "figures"

_QUALITY = 75

Read = Callable[[str, str], np.ndarray]
"""Returns the image of a part and an id, uint8 [height, width, bands]."""


def write(found: Findings, folder: epath.PathLike, *, read: Read) -> epath.Path:
  """Writes the report on a run with people.

  The folder then holds `report.html`, which needs no other file; all of it as
  `report.json`; and as tables `asked.csv`, `label_errors.csv`, `duplicates.csv`
  and `classes.csv`. Files of those names are replaced, each whole or not at
  all.

  Args:
    found: What the run has found.
    folder: The folder, made if it is not there.
    read: Reads an image that is shown.

  Returns:
    The page.

  Raises:
    OSError: If the folder cannot be written.
  """
  folder = storage.as_path(folder)
  storage.make_folder(folder)
  pictures = []
  if found.held_out is not None:
    storage.make_folder(folder / FIGURE_FOLDER)
    pictures.append(_curve(found.held_out, folder / FIGURE_FOLDER))
  text = json.dumps(_plain(found), indent=1, allow_nan=False) + "\n"
  report_document.write_text(folder / JSON_FILE, text)
  for name, rows in _tables(found):
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    report_document.write_text(folder / name, file.getvalue())
  path = folder / PAGE_FILE
  text = page.render(found, pictures, _thumbnails(read))
  report_document.write_text(path, text)
  return path


def _plain(value: Any) -> Any:
  """Returns named tuples as objects, as JSON has them."""
  if hasattr(value, "_asdict"):
    return {name: _plain(field) for name, field in value._asdict().items()}
  if isinstance(value, tuple | list):
    return [_plain(entry) for entry in value]
  return value


def _tables(found: Findings) -> Iterator[tuple[str, list[Sequence[object]]]]:
  """Yields the name and the rows of each table."""
  yield (
    "asked.csv",
    [
      ("round", "id", "strategy", "score", "cluster_size", "labels"),
      *(
        (a.round, a.id, a.strategy, a.score, a.cluster_size, _join(a.labels))
        for a in found.asked
      ),
    ],
  )
  suspects = found.second_look.suspects if found.second_look else ()
  yield (
    "label_errors.csv",
    [
      ("id", "given", "suggested", "p_given", "p_suggested", "annotators"),
      *((*suspect[:-1], _join(suspect.annotators)) for suspect in suspects),
    ],
  )
  yield (
    "duplicates.csv",
    [
      ("group", "part", "id", "labels"),
      *(
        (number, copy.part, copy.id, _join(copy.labels))
        for number, group in enumerate(found.duplicates)
        for copy in group
      ),
    ],
  )
  yield ("classes.csv", [("class", "labels"), *found.classes])


def _join(names: Sequence[str] | None) -> str:
  return ";".join(names or ())


def _thumbnails(read: Read) -> page.Thumbnail:
  """Returns what shows an image on the page, each read once."""
  shown = {}

  def thumbnail(part: str, id_: str) -> str:
    if (part, id_) not in shown:
      shown[part, id_] = _as_uri(read(part, id_))
    return shown[part, id_]

  return thumbnail


def _as_uri(image: np.ndarray) -> str:
  if image.shape[-1] != 3:
    # Of many bands, the mean.
    image = np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1)
  small = figures.thumbnail(image.astype(np.uint8))
  file = io.BytesIO()
  Image.fromarray(small).save(file, "JPEG", quality=_QUALITY)
  content = base64.b64encode(file.getvalue()).decode()
  return f"data:image/jpeg;base64,{content}"


def _curve(held_out: HeldOut, folder: epath.Path) -> gallery.Picture:
  """Draws what each round reached, with its interval."""
  picture = figure.Figure(figsize=(6.4, 3.6), layout="constrained")
  axes = picture.subplots()
  labels = [score.num_labeled for score in held_out.scores]
  values = np.array([100 * score.value for score in held_out.scores])
  ends = 100 * np.array(
    [score.interval or (score.value,) * 2 for score in held_out.scores]
  )
  spread = np.abs(ends.T - values)
  axes.errorbar(labels, values, spread, marker="o", markersize=4, capsize=3)
  axes.set_xlabel("labeled images")
  axes.set_ylabel(f"{held_out.part} {held_out.metric} (%)")
  axes.xaxis.set_major_locator(
    ticker.MaxNLocator(figures.MAX_TICKS, integer=True)
  )
  axes.grid(alpha=0.3)
  axes.spines[["top", "right"]].set_visible(False)
  path = folder / "held_out.png"
  figures.save(picture, path)
  return gallery.png(
    "What labels brought",
    f"{held_out.metric.capitalize()} on the {held_out.num_images} images of"
    f" {held_out.part} after each round, with 95 % intervals.",
    path,
  )
