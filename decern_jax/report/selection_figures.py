"""Pictures of strategies side by side: who wins, and what each selects."""

from collections.abc import Mapping, Sequence
import math

from etils import epath
from matplotlib import cm, colors, figure, ticker
import numpy as np

from decern_jax.report.figures import MAX_TICKS, save
from decern_jax.runs.records import Record

# More names than this below an axis would touch.
_MAX_NAMES = 30

# Columns of the map's panels, and the color scale of its rounds.
_MAX_PANELS_WIDE = 3
_ROUND_COLORS = "viridis"
_POOL_COLOR = "0.85"


def penalty_heatmap(
  names: Sequence[str],
  matrix: Sequence[Sequence[float | None]],
  means: Sequence[float | None],
  path: epath.PathLike,
) -> None:
  """Draws at which share of the budgets a strategy beats another.

  Args:
    names: The strategies.
    matrix: [strategies][strategies], shares in [0, 1]: the row beats the
      column; None where a pair could not be tested.
    means: [strategies], of the columns, drawn below; None likewise.
    path: The PNG file to write.
  """
  rows = np.array([*matrix, means], float)
  side = 2.6 + 0.62 * len(names)
  picture = figure.Figure(figsize=(side + 0.2, side), layout="constrained")
  axes = picture.subplots()
  axes.imshow(rows, vmin=0.0, vmax=1.0, cmap="Blues")
  for (row, column), share in np.ndenumerate(rows):
    if row == column:
      continue
    text = "–" if np.isnan(share) else f"{share:.2f}"
    color = "white" if share > 0.6 else "black"
    axes.text(column, row, text, ha="center", va="center", color=color)
  axes.axhline(len(names) - 0.5, color="black", lw=1.5)
  axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
  axes.set_yticks(range(len(rows)), [*names, "mean of column"])
  axes.set_xlabel("is beaten")
  axes.set_ylabel("beats")
  axes.spines[:].set_visible(False)
  axes.tick_params(length=0)
  save(picture, path)


def class_histogram(
  counts: Mapping[str, Sequence[float]],
  class_names: Sequence[str],
  path: epath.PathLike,
) -> None:
  """Draws how many images of each class the strategies selected.

  Args:
    counts: For each strategy, a number for each class.
    class_names: Name of each class.
    path: The PNG file to write.
  """
  size = (7.2, 0.6 + 1.5 * len(counts) + 1.2 * _can_name(class_names))
  picture = figure.Figure(figsize=size, layout="constrained")
  panels = picture.subplots(
    len(counts), sharex=True, sharey=True, squeeze=False
  )[:, 0]
  positions = np.arange(len(class_names))
  for index, (axes, name) in enumerate(zip(panels, counts, strict=True)):
    values = np.asarray(counts[name], float)
    axes.bar(positions, values, width=0.9, color=f"C{index % 10}")
    axes.axhline(values.mean(), color="0.3", lw=0.8, ls="--")
    num_never = int((values == 0).sum())
    note = f", {num_never} classes never" if num_never else ""
    axes.set_title(f"{name}{note}", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_locator(ticker.MaxNLocator(4))
    axes.set_ylabel("images")
  panels[-1].set_xlim(-0.6, len(class_names) - 0.4)
  if _can_name(class_names):
    panels[-1].set_xticks(
      positions, map(_plain, class_names), rotation=60, ha="right"
    )
  else:
    panels[-1].xaxis.set_major_locator(
      ticker.MaxNLocator(MAX_TICKS, integer=True)
    )
    panels[-1].set_xlabel("class, by its position")
  save(picture, path)


def pool_map(
  points: np.ndarray,
  ids: Sequence[str],
  runs: Mapping[str, Sequence[Record]],
  path: epath.PathLike,
) -> None:
  """Draws where in the pool each strategy selects, round by round.

  Args:
    points: float [pool, 2], a place for each image, as of `project`.
    ids: [pool], their ids.
    runs: The records of one run of each strategy.
    path: The PNG file to write.
  """
  position = {id_: index for index, id_ in enumerate(ids)}
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
  for axes in panels.flat:
    axes.set_axis_off()
  for axes, (name, run) in zip(panels.flat, runs.items(), strict=False):
    axes.scatter(*points.T, s=3, color=_POOL_COLOR, lw=0, rasterized=True)
    for record in run:
      chosen = [position[id_] for id_ in record["selected"]]
      color = scale.to_rgba(record["round"])
      axes.scatter(*points[chosen].T, s=10, color=color, lw=0)
    axes.set_title(name, fontsize=10)
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


def project(features: np.ndarray) -> np.ndarray:
  """Returns the two main directions of features (PCA).

  Args:
    features: float [pool, dim], dim at least 2.

  Returns:
    float [pool, 2]: the centered features along the directions of most
    variance; each direction points to where its largest weight is positive.
  """
  centered = np.asarray(features, np.float32)
  centered = centered - centered.mean(axis=0)
  _, axes = np.linalg.eigh(centered.T @ centered)
  axes = axes[:, :-3:-1]
  largest = np.abs(axes).argmax(axis=0)
  return centered @ (axes * np.sign(axes[largest, [0, 1]]))


def _can_name(class_names: Sequence[str]) -> bool:
  return len(class_names) <= _MAX_NAMES


def _plain(name: str) -> str:
  """Returns a name that is drawn as it is, and not read as a formula."""
  text = name.encode(errors="replace").decode()
  return text.replace("$", r"\$")
