"""Pictures of a run: the learning curve and what was selected."""

from collections.abc import Callable, Mapping, Sequence
import io
import itertools

from etils import epath
from matplotlib import figure, ticker
import numpy as np
from PIL import Image, ImageOps

from decern_jax.io import storage
from decern_jax.runs.records import Record, metric_of

# More marks than this on the axis of labels would touch.
MAX_TICKS = 10

# Of lines that share a color, where there are more lines than colors.
_LINE_STYLES = ("-", "--", ":")
_NUM_COLORS = 10

_CEILING = "all labels"

# With more lines than this, bands would hide them, and the legend is beside.
MAX_BANDS = 6

# The contact sheet: images of a row, then pixels.
NUM_COLUMNS = 12
THUMBNAIL = 108
_GAP = 5
_MARGIN = 150
_DPI = 120


def learning_curve(
  runs: Mapping[str, Sequence[Sequence[Record]]],
  path: epath.PathLike,
  *,
  ceiling: float | None = None,
) -> None:
  """Draws test accuracy, or macro F1, over the number of labels.

  Args:
    runs: For each line of the picture, its name and the records of its runs;
      several runs are drawn as their mean, in a band of one standard deviation
      unless there are more than `MAX_BANDS` lines.
    path: The PNG file to write.
    ceiling: The accuracy with all labels, drawn across; None: not known.
  """
  is_crowded = len(runs) > MAX_BANDS
  size = (8.4, 5.4) if is_crowded else (6.4, 4.2)
  picture = figure.Figure(figsize=size, layout="constrained")
  axes = picture.subplots()
  marks = set()
  metric = metric_of(next(iter(runs.values()))[0][0])
  for index, (name, seeds) in enumerate(runs.items()):
    labels = [record["num_labeled"] for record in seeds[0]]
    marks.update(labels)
    accuracy = 100.0 * np.array(
      [[record["test"][metric.name] for record in run] for run in seeds]
    )
    mean = accuracy.mean(axis=0)
    (line,) = axes.plot(
      labels,
      mean,
      marker="o",
      markersize=4,
      linestyle=_LINE_STYLES[index // _NUM_COLORS % len(_LINE_STYLES)],
      label=name,
    )
    if len(seeds) > 1 and not is_crowded:
      spread = accuracy.std(axis=0, ddof=1)
      color = line.get_color()
      axes.fill_between(
        labels, mean - spread, mean + spread, color=color, alpha=0.15, lw=0
      )
  if ceiling is not None:
    axes.axhline(100.0 * ceiling, color="0.4", lw=1.2, ls=":", label=_CEILING)
  axes.set_xlabel("labeled images")
  axes.set_ylabel(f"test {metric.title} (%)")
  if len(marks) <= MAX_TICKS:
    axes.set_xticks(sorted(marks))
  else:
    axes.xaxis.set_major_locator(ticker.MaxNLocator(MAX_TICKS, integer=True))
  axes.grid(alpha=0.3)
  axes.spines[["top", "right"]].set_visible(False)
  num_runs = max(map(len, runs.values()))
  what = "mean" if is_crowded else "mean ± std"
  title = f"{what} of {num_runs} runs" if num_runs > 1 else None
  if is_crowded:
    picture.legend(title=title, frameon=False, loc="outside right center")
  else:
    axes.legend(title=title, frameon=False, loc="lower right")
  save(picture, path)


def contact_sheet(
  records: Sequence[Record],
  read: Callable[[str], np.ndarray],
  path: epath.PathLike,
) -> None:
  """Draws the first selected images of every round, highest score first.

  Args:
    records: Records of a run.
    read: Returns the image of an id, uint8 [height, width, 3].
    path: The PNG file to write. Without any selection, none is written.
  """
  rows = [record for record in records if record["selected"]]
  if not rows:
    return
  names = [_by_score(record)[:NUM_COLUMNS] for record in rows]
  sheet = _tile([[thumbnail(read(name)) for name in row] for row in names])
  height, width = sheet.shape[0] + _GAP, sheet.shape[1] + _MARGIN
  picture = figure.Figure(figsize=(width / _DPI, height / _DPI))
  picture.figimage(sheet, xo=_MARGIN)
  for row, (record, shown) in enumerate(zip(rows, names, strict=True)):
    middle = _GAP + row * (THUMBNAIL + _GAP) + THUMBNAIL / 2
    count = f"{len(shown)} of {len(record['selected'])} selected"
    picture.text(
      (_MARGIN - 2 * _GAP) / width,
      1.0 - middle / height,
      f"round {record['round']}\n{count}",
      ha="right",
      va="center",
      fontsize=8,
    )
  save(picture, path)


def thumbnail(image: np.ndarray) -> np.ndarray:
  """Returns the largest centered square of an image, made small.

  Args:
    image: uint8 [height, width, 3].

  Returns:
    uint8 [THUMBNAIL, THUMBNAIL, 3].
  """
  size = (THUMBNAIL, THUMBNAIL)
  return np.asarray(ImageOps.fit(Image.fromarray(image), size))


def _tile(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
  """Returns thumbnails in rows on white, a gap after each and below."""
  step = THUMBNAIL + _GAP
  shape = (len(rows) * step, max(map(len, rows)) * step, 3)
  sheet = np.full(shape, 255, np.uint8)
  for top, row in zip(itertools.count(0, step), rows, strict=False):
    for left, image in zip(itertools.count(0, step), row, strict=False):
      sheet[top : top + THUMBNAIL, left : left + THUMBNAIL] = image
  return sheet


def _by_score(record: Record) -> list[str]:
  """Returns the selected ids, the highest score first."""
  if record["scores"] is None:
    return record["selected"]
  order = np.argsort(-np.array(record["scores"]), kind="stable")
  return [record["selected"][position] for position in order]


def save(picture: figure.Figure, path: epath.PathLike) -> None:
  """Writes a picture as PNG, so that a kill leaves all of it or none.

  Args:
    picture: The picture.
    path: The file; one that exists is replaced.
  """
  content = io.BytesIO()
  picture.savefig(content, format="png", dpi=_DPI)
  storage.write_atomically(path, content.getvalue())
