"""The pictures of a report, with their captions."""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import io
import re

from etils import epath
import numpy as np
from PIL import Image

from decern_jax.io import storage
from decern_jax.report import figures
from decern_jax.report.comparison import Comparison
from decern_jax.report.summary import Summary

# Contact sheets are JPEG files of this width in pixels, so that the page can be
# sent by e-mail.
_SHEET_WIDTH = 1000
_SHEET_QUALITY = 80


@dataclasses.dataclass(frozen=True)
class PoolView:
  """The images of the pool, for pictures of the selected ones.

  Attributes:
    ids: Id of each image.
    labels: int [pool], the index of each image's class in the class names of
      the runs, or [pool, classes] of 0 and 1 where an image may have several;
      None if not known.
    features: float [pool, dim] of any model, for the map; None if not known.
    read: Returns the image of an id, uint8 [height, width, 3]; None if images
      cannot be read.
  """

  ids: Sequence[str]
  labels: np.ndarray | None = None
  features: np.ndarray | None = None
  read: Callable[[str], np.ndarray] | None = None


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture of the page.

  Attributes:
    title: Its heading.
    caption: What it shows; also its text for screen readers.
    media_type: Type of the content, such as "image/png".
    content: The bytes of the file.
  """

  title: str
  caption: str
  media_type: str
  content: bytes


def check_pool(runs: Comparison, pool: PoolView) -> None:
  """Checks that a pool is that of the runs.

  Raises:
    ValueError: If an id that a run selected is not among the ids, or labels or
      features are not one per id.
  """
  for name, rows in (("labels", pool.labels), ("features", pool.features)):
    if rows is not None and len(rows) != len(pool.ids):
      raise ValueError(
        f"Expected `{name}` of {len(pool.ids)} images, got {len(rows)}."
      )
  known = set(pool.ids)
  for strategy in runs.runs.values():
    for run in strategy.values():
      for record in run:
        missing = set(record["selected"]) - known
        if missing:
          raise ValueError(
            f"Expected `ids` of the runs' pool, got none of {min(missing)!r}."
          )


def draw(
  runs: Comparison,
  summary: Summary,
  folder: epath.PathLike,
  *,
  pool: PoolView | None = None,
) -> list[Picture]:
  """Draws all pictures of a report.

  Args:
    runs: The runs.
    summary: Their numbers.
    folder: Folder for the PNG files.
    pool: The images of the pool; None leaves out the pictures of the selected
      images.

  Raises:
    ValueError: As in `check_pool`.
  """
  folder = storage.as_path(folder)
  storage.make_folder(folder)
  names = [result.name for result in summary.strategies]
  found = [_curves(runs, summary, names, folder)]
  if len(names) > 1:
    found.append(_penalties(summary, names, folder))
  if pool is not None:
    check_pool(runs, pool)
    found += _selections(runs, names, folder, pool)
  return found


def _curves(
  runs: Comparison, summary: Summary, names: Sequence[str], folder: epath.Path
) -> Picture:
  path = folder / "learning_curves.png"
  bound = summary.upper_bound
  figures.learning_curve(
    {name: list(runs.runs[name].values()) for name in names},
    path,
    ceiling=bound and bound.accuracy,
  )
  return png(
    "Learning curves",
    f"Test {summary.metric.title} over the number of labeled images, for "
    + ", ".join(names)
    + (" and all labels" if bound else "")
    + ". Lines are means over seeds, bands, if there are few, one standard"
    " deviation. The table below holds the numbers.",
    path,
  )


def _penalties(
  summary: Summary, names: Sequence[str], folder: epath.Path
) -> Picture:
  path = folder / "penalty_matrix.png"
  means = [result.penalty for result in summary.strategies]
  figures.penalty_heatmap(names, summary.penalty_matrix, means, path)
  best = [
    result.name
    for result in summary.strategies
    if result.penalty is not None
    and result.penalty == min(mean for mean in means if mean is not None)
  ]
  least = f" Least often beaten: {', '.join(best)}." if best else ""
  return png(
    "Who beats whom",
    "Share of the numbers of labels at which the strategy of the row beats that"
    f" of the column with p < 0.05 in a paired t-test.{least}",
    path,
  )


def _selections(
  runs: Comparison, names: Sequence[str], folder: epath.Path, pool: PoolView
) -> Iterator[Picture]:
  """Yields the pictures of the selected images."""
  if pool.labels is not None:
    yield _classes(runs, names, folder, pool)
  first = {name: next(iter(runs.runs[name])) for name in names}
  shown = {name: runs.runs[name][seed] for name, seed in first.items()}
  if pool.features is not None:
    path = folder / "pool_map.png"
    points = figures.project(pool.features)
    figures.pool_map(points, pool.ids, shown, path)
    yield png(
      "Where in the pool",
      "The pool along the two main directions of its features (grey), and the"
      " images that each strategy selected, colored by round; of each"
      " strategy's first seed.",
      path,
    )
  if pool.read is None:
    return
  for name, run in shown.items():
    path = folder / f"selected_{re.sub(r'[^A-Za-z0-9.=-]+', '_', name)}.png"
    figures.contact_sheet(run, pool.read, path)
    if any(record["selected"] for record in run):
      yield Picture(
        f"Selected by {name}",
        f"The first images that {name} selected in each round, the highest"
        f" score first; seed {first[name]}.",
        "image/jpeg",
        _as_jpeg(path),
      )


def _classes(
  runs: Comparison, names: Sequence[str], folder: epath.Path, pool: PoolView
) -> Picture:
  path = folder / "selected_classes.png"
  class_names = runs.data["class_names"]
  labels = np.asarray(pool.labels)
  if labels.ndim == 1:
    labels = labels[:, None] == np.arange(len(class_names))
  row_of = {id_: row for row, id_ in enumerate(pool.ids)}
  counts = {}
  for name in names:
    seeds = runs.runs[name].values()
    picked = [
      row_of[id_] for run in seeds for r in run for id_ in r["selected"]
    ]
    counts[name] = labels[picked].sum(axis=0) / len(seeds)
  figures.class_histogram(counts, class_names, path)
  return png(
    "Selected classes",
    "Images of each class that a strategy selected in all rounds, without the"
    " initial set; mean over seeds. The dashed line is an equal share.",
    path,
  )


def png(title: str, caption: str, path: epath.Path) -> Picture:
  """Returns a picture of the page in 256 colors, a third of the size."""
  content = io.BytesIO()
  with Image.open(io.BytesIO(storage.read_bytes(path))) as image:
    image.convert("RGB").quantize(256).save(content, "PNG", optimize=True)
  return Picture(title, caption, "image/png", content.getvalue())


def _as_jpeg(path: epath.Path) -> bytes:
  """Returns a picture as a small JPEG file."""
  with Image.open(io.BytesIO(storage.read_bytes(path))) as image:
    small = image.convert("RGB")
  small.thumbnail((_SHEET_WIDTH, small.height))
  file = io.BytesIO()
  small.save(file, "JPEG", quality=_SHEET_QUALITY)
  return file.getvalue()
