"""The files of the report on a run with people: a page, tables and JSON."""

import base64
from collections.abc import Callable, Iterator, Sequence
import functools
import io
import json
from typing import Any

from etils import epath
from matplotlib import figure, ticker
import numpy as np
from PIL import Image

from decern_jax.annotation.quality import report_page
from decern_jax.annotation.quality.findings import Findings, HeldOut
from decern_jax.io import storage
from decern_jax.report import document, figures, gallery

PAGE_FILE = "report.html"
JSON_FILE = "report.json"
FIGURE_FOLDER = "figures"

_QUALITY = 75

Read = Callable[[str, str], np.ndarray]
"""Maps a split and an id to an image, uint8 [height, width, bands]."""


def write(found: Findings, folder: epath.PathLike, *, read: Read) -> epath.Path:
  """Writes the report on a run with people.

  Writes `report.html`, which needs no other file; `report.json` with all
  findings; and the tables `asked.csv`, `label_errors.csv`, `duplicates.csv` and
  `classes.csv`. Existing files are replaced, each atomically.

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
  document.write_text(folder / JSON_FILE, text)
  for name, rows in _tables(found):
    document.write_csv(folder / name, rows)
  path = folder / PAGE_FILE
  document.write_text(
    path, report_page.render(found, pictures, _thumbnails(read))
  )
  return path


def _plain(value: Any) -> Any:
  """Converts named tuples, at any depth, to dictionaries."""
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
  suspects = found.label_check.suspects if found.label_check else ()
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
      ("group", "split", "id", "labels"),
      *(
        (number, copy.split, copy.id, _join(copy.labels))
        for number, group in enumerate(found.duplicates)
        for copy in group
      ),
    ],
  )
  yield ("classes.csv", [("class", "labels"), *found.classes])


def _join(names: Sequence[str] | None) -> str:
  return ";".join(names or ())


def _thumbnails(read: Read) -> report_page.Thumbnail:
  """Returns a function that makes thumbnails and reads each image once."""
  return functools.cache(lambda split, id_: _as_uri(read(split, id_)))


def _as_uri(image: np.ndarray) -> str:
  if image.shape[-1] != 3:
    # Images with other bands are shown as the mean band, in grey.
    image = np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1)
  small = figures.thumbnail(image.astype(np.uint8))
  file = io.BytesIO()
  Image.fromarray(small).save(file, "JPEG", quality=_QUALITY)
  content = base64.b64encode(file.getvalue()).decode()
  return f"data:image/jpeg;base64,{content}"


def _curve(held_out: HeldOut, folder: epath.Path) -> gallery.Picture:
  """Draws the held-out score of each round with its interval."""
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
  axes.set_ylabel(f"{held_out.split} {held_out.metric} (%)")
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
    f" {held_out.split} after each round, with 95 % intervals.",
    path,
  )
