"""The figures of runs: curves, contact sheets, and what strategies select."""

from collections.abc import Callable, Mapping, Sequence
import io
import itertools
import math

from etils import epath
from jaxtyping import Float, UInt8
from matplotlib import cm, colors, figure, ticker
import numpy as np
from PIL import Image, ImageOps

from decern_jax.io import storage
from decern_jax.pretraining import journal
from decern_jax.runs.records import Record, metric_of

# More tick labels than this would touch.
MAX_TICKS = 10

# Line styles tell lines apart that share one of matplotlib's ten colors.
_LINE_STYLES = ("-", "--", ":")
_NUM_COLORS = 10

_CEILING = "all labels"

# With more lines than this, bands would hide them, and the legend is outside.
MAX_BANDS = 6

# Contact sheets: images per row, and sizes in pixels.
NUM_COLUMNS = 12
THUMBNAIL = 108
_GAP = 5
_MARGIN = 150
_DPI = 120

# Below an axis, more class names than this would touch.
_MAX_NAMES = 30

# Maps of the pool: panels per row, and colors.
_MAX_PANELS_WIDE = 3
_ROUND_COLORS = "viridis"
_POOL_COLOR = "0.85"

PRETRAINING_FILE = "loss_curve.png"


def learning_curve(
  runs: Mapping[str, Sequence[Sequence[Record]]],
  path: epath.PathLike,
  *,
  ceiling: float | None = None,
) -> None:
  """Draws test accuracy, or macro F1, over the number of labels.

  Args:
    runs: For each line, its name and the records of its runs. Several runs are
      drawn as their mean, in a band of one standard deviation unless there are
      more than `MAX_BANDS` lines.
    path: The PNG file to write.
    ceiling: The accuracy with all labels, drawn as a horizontal line; None if
      it is not known.
  """
  is_crowded = len(runs) > MAX_BANDS
  size = (8.4, 5.4) if is_crowded else (6.4, 4.2)
  picture = figure.Figure(figsize=size, layout="constrained")
  panel = picture.subplots()
  marks = set()
  metric = metric_of(next(iter(runs.values()))[0][0])
  for index, (name, seeds) in enumerate(runs.items()):
    labels = [record["num_labeled"] for record in seeds[0]]
    marks.update(labels)
    accuracy = 100.0 * np.array(
      [[record["test"][metric.name] for record in run] for run in seeds]
    )
    mean = accuracy.mean(axis=0)
    (line,) = panel.plot(
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
      panel.fill_between(
        labels, mean - spread, mean + spread, color=color, alpha=0.15, lw=0
      )
  if ceiling is not None:
    panel.axhline(100.0 * ceiling, color="0.4", lw=1.2, ls=":", label=_CEILING)
  panel.set_xlabel("labeled images")
  panel.set_ylabel(f"test {metric.title} (%)")
  if len(marks) <= MAX_TICKS:
    panel.set_xticks(sorted(marks))
  else:
    panel.xaxis.set_major_locator(ticker.MaxNLocator(MAX_TICKS, integer=True))
  panel.grid(alpha=0.3)
  panel.spines[["top", "right"]].set_visible(False)
  num_runs = max(map(len, runs.values()))
  what = "mean" if is_crowded else "mean ± std"
  title = f"{what} of {num_runs} runs" if num_runs > 1 else None
  if is_crowded:
    picture.legend(title=title, frameon=False, loc="outside right center")
  else:
    panel.legend(title=title, frameon=False, loc="lower right")
  save(picture, path)


def contact_sheet(
  records: Sequence[Record],
  read: Callable[[str], np.ndarray],
  path: epath.PathLike,
) -> None:
  """Draws the selected images with the highest scores of every round.

  Args:
    records: Records of a run.
    read: Returns the image of an id, uint8 [height, width, 3].
    path: The PNG file; not written if no round selected anything.
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


def thumbnail(
  image: UInt8[np.ndarray, "height width 3"],
) -> UInt8[np.ndarray, "side side 3"]:
  """Returns the largest centered square of an image, resized to `THUMBNAIL`."""
  size = (THUMBNAIL, THUMBNAIL)
  return np.asarray(ImageOps.fit(Image.fromarray(image), size))


def _tile(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
  """Returns thumbnails in rows on white, with a gap right of and below each."""
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
  return [record["selected"][index] for index in order]


def penalty_heatmap(
  names: Sequence[str],
  matrix: Sequence[Sequence[float | None]],
  means: Sequence[float | None],
  path: epath.PathLike,
) -> None:
  """Draws the share of the budgets at which a strategy beats another.

  Args:
    names: The strategies.
    matrix: [strategies][strategies], shares in [0, 1]: the row beats the
      column; None where a pair could not be tested.
    means: [strategies], of the columns, drawn below; None where no pair could
      be tested.
    path: The PNG file to write.
  """
  rows = np.array([*matrix, means], float)
  side = 2.6 + 0.62 * len(names)
  picture = figure.Figure(figsize=(side + 0.2, side), layout="constrained")
  panel = picture.subplots()
  panel.imshow(rows, vmin=0.0, vmax=1.0, cmap="Blues")
  for (row, column), share in np.ndenumerate(rows):
    if row == column:
      continue
    text = "–" if np.isnan(share) else f"{share:.2f}"
    color = "white" if share > 0.6 else "black"
    panel.text(column, row, text, ha="center", va="center", color=color)
  panel.axhline(len(names) - 0.5, color="black", lw=1.5)
  panel.set_xticks(range(len(names)), names, rotation=40, ha="right")
  panel.set_yticks(range(len(rows)), [*names, "mean of column"])
  panel.set_xlabel("is beaten")
  panel.set_ylabel("beats")
  panel.spines[:].set_visible(False)
  panel.tick_params(length=0)
  save(picture, path)


def class_histogram(
  counts: Mapping[str, Sequence[float]],
  class_names: Sequence[str],
  path: epath.PathLike,
) -> None:
  """Draws how many images of each class the strategies selected."""
  has_names = len(class_names) <= _MAX_NAMES
  size = (7.2, 0.6 + 1.5 * len(counts) + 1.2 * has_names)
  picture = figure.Figure(figsize=size, layout="constrained")
  panels = picture.subplots(
    len(counts), sharex=True, sharey=True, squeeze=False
  )[:, 0]
  indices = np.arange(len(class_names))
  for index, (panel, name) in enumerate(zip(panels, counts, strict=True)):
    values = np.asarray(counts[name], float)
    panel.bar(indices, values, width=0.9, color=f"C{index % 10}")
    panel.axhline(values.mean(), color="0.3", lw=0.8, ls="--")
    num_never = int((values == 0).sum())
    note = f", {num_never} classes never" if num_never else ""
    panel.set_title(f"{name}{note}", fontsize=10, loc="left")
    panel.spines[["top", "right"]].set_visible(False)
    panel.yaxis.set_major_locator(ticker.MaxNLocator(4))
    panel.set_ylabel("images")
  panels[-1].set_xlim(-0.6, len(class_names) - 0.4)
  if has_names:
    panels[-1].set_xticks(
      indices, map(_plain, class_names), rotation=60, ha="right"
    )
  else:
    panels[-1].xaxis.set_major_locator(
      ticker.MaxNLocator(MAX_TICKS, integer=True)
    )
    panels[-1].set_xlabel("class index")
  save(picture, path)


def pool_map(
  points: Float[np.ndarray, "pool 2"],
  ids: Sequence[str],
  runs: Mapping[str, Sequence[Record]],
  path: epath.PathLike,
) -> None:
  """Draws where in the pool each strategy selects, round by round.

  Args:
    points: Coordinates of each image, from `project`.
    ids: Id of each image.
    runs: The records of one run of each strategy.
    path: The PNG file to write.
  """
  index_of = {id_: index for index, id_ in enumerate(ids)}
  wide = min(_MAX_PANELS_WIDE, math.ceil(math.sqrt(len(runs))))
  high = -(-len(runs) // wide)
  picture = figure.Figure(
    figsize=(3.2 * wide + 0.9, 3.3 * high), layout="constrained"
  )
  panels = picture.subplots(high, wide, sharex=True, sharey=True, squeeze=False)
  last = max(len(run) for run in runs.values()) - 1
  scale = cm.ScalarMappable(
    colors.Normalize(0, max(1, last - 1)), cmap=_ROUND_COLORS
  )
  for panel in panels.flat:
    panel.set_axis_off()
  for panel, (name, run) in zip(panels.flat, runs.items(), strict=False):
    panel.scatter(*points.T, s=3, color=_POOL_COLOR, lw=0, rasterized=True)
    for record in run:
      chosen = [index_of[id_] for id_ in record["selected"]]
      color = scale.to_rgba(record["round"])
      panel.scatter(*points[chosen].T, s=10, color=color, lw=0)
    panel.set_title(name, fontsize=10)
  picture.colorbar(
    scale,
    ax=panels,
    label="selected after round",
    ticks=ticker.MaxNLocator(MAX_TICKS, integer=True),
    location="top",
    shrink=0.6,
    aspect=30,
  )
  save(picture, path)


def project(
  features: Float[np.ndarray, "pool dim"],
) -> Float[np.ndarray, "pool 2"]:
  """Projects features on their first two principal components (PCA).

  The sign of a component is chosen so that its largest weight is positive.

  Args:
    features: The features; dim is at least 2.

  Returns:
    The coordinates of the centered features.
  """
  centered = np.asarray(features, np.float32)
  centered = centered - centered.mean(axis=0)
  _, components = np.linalg.eigh(centered.T @ centered)
  components = components[:, :-3:-1]
  largest = np.abs(components).argmax(axis=0)
  return centered @ (components * np.sign(components[largest, [0, 1]]))


def _plain(name: str) -> str:
  """Escapes a name that matplotlib would read as a formula."""
  text = name.encode(errors="replace").decode()
  return text.replace("$", r"\$")


def pretraining_curve(
  records: Sequence[journal.EpochRecord], path: epath.PathLike
) -> None:
  """Draws the loss over the epochs and, if there is a probe, its metric.

  Args:
    records: The records of a pre-training, at least one epoch.
    path: The PNG file to write.
  """
  picture = figure.Figure(figsize=(6.4, 4.2), layout="constrained")
  panel = picture.subplots()
  trained = [record for record in records if "loss" in record]
  panel.plot(
    [record["epoch"] for record in trained],
    [record["loss"] for record in trained],
    color="C0",
  )
  panel.set_xlabel("epoch")
  panel.set_ylabel("loss", color="C0")
  panel.grid(alpha=0.3)
  panel.spines["top"].set_visible(False)
  probed = [record for record in records if "probe" in record]
  if probed:
    (name,) = probed[0]["probe"]
    other = panel.twinx()
    other.plot(
      [record["epoch"] for record in probed],
      [100.0 * record["probe"][name] for record in probed],
      color="C1",
      marker="o",
      markersize=4,
    )
    other.set_ylabel(f"{name.replace('_', ' ')} (%)", color="C1")
    other.spines["top"].set_visible(False)
  save(picture, path)


def save(picture: figure.Figure, path: epath.PathLike) -> None:
  """Writes a picture as a PNG file, atomically.

  Args:
    picture: The picture.
    path: The file; an existing one is replaced.
  """
  content = io.BytesIO()
  picture.savefig(content, format="png", dpi=_DPI)
  storage.write_atomically(path, content.getvalue())
