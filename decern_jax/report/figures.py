"""Pictures of a run: the learning curve and what was selected."""

from collections.abc import Callable, Mapping, Sequence

from etils import epath
from matplotlib import figure, ticker
import numpy as np

from decern_jax.report.records import Record

# Pictures of the selected images, per row and in all rounds together.
NUM_COLUMNS = 12
THUMBNAIL_INCHES = 0.9


def learning_curve(
  runs: Mapping[str, Sequence[Sequence[Record]]], path: epath.PathLike
) -> None:
  """Draws test accuracy over the number of labels.

  Args:
    runs: For each line of the picture, its name and the records of its runs;
      several runs are drawn as their mean, in a band of one standard
      deviation.
    path: The PNG file to write.
  """
  picture = figure.Figure(figsize=(6.4, 4.2), layout="constrained")
  axes = picture.subplots()
  for name, seeds in runs.items():
    labels = [record["num_labeled"] for record in seeds[0]]
    accuracy = 100.0 * np.array(
      [[record["test"]["accuracy"] for record in run] for run in seeds]
    )
    mean, spread = accuracy.mean(axis=0), accuracy.std(axis=0)
    (line,) = axes.plot(labels, mean, marker="o", markersize=4, label=name)
    if len(seeds) > 1:
      color = line.get_color()
      axes.fill_between(
        labels, mean - spread, mean + spread, color=color, alpha=0.15, lw=0
      )
  axes.set_xlabel("labeled images")
  axes.set_ylabel("test accuracy (%)")
  axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  axes.grid(alpha=0.3)
  axes.spines[["top", "right"]].set_visible(False)
  axes.legend(frameon=False, loc="lower right")
  _save(picture, path)


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
  inches = THUMBNAIL_INCHES
  picture = figure.Figure(
    figsize=(NUM_COLUMNS * inches + 1.0, len(rows) * inches + 0.4)
  )
  grid = picture.subplots(
    len(rows),
    NUM_COLUMNS,
    squeeze=False,
    gridspec_kw={"left": 0.09, "right": 0.995, "wspace": 0.04, "hspace": 0.04},
  )
  for axes, record in zip(grid, rows, strict=True):
    for cell in axes:
      cell.set_axis_off()
    for cell, name in zip(axes, _by_score(record), strict=False):
      cell.imshow(square(read(name)))
    axes[0].text(
      -0.12,
      0.5,
      f"round {record['round']}\n{len(record['selected'])} selected",
      transform=axes[0].transAxes,
      ha="right",
      va="center",
      fontsize=8,
    )
  _save(picture, path)


def square(image: np.ndarray) -> np.ndarray:
  """Returns the largest centered square of an image."""
  height, width = image.shape[:2]
  side = min(height, width)
  top, left = (height - side) // 2, (width - side) // 2
  return image[top : top + side, left : left + side]


def _by_score(record: Record) -> list[str]:
  """Returns the selected ids, the highest score first."""
  if record["scores"] is None:
    return record["selected"]
  order = np.argsort(-np.array(record["scores"]), kind="stable")
  return [record["selected"][position] for position in order]


def _save(picture: figure.Figure, path: epath.PathLike) -> None:
  """Writes a picture as PNG."""
  with epath.Path(path).open("wb") as file:
    picture.savefig(file, format="png", dpi=120)
