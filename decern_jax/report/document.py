"""A report: a folder with a page, its pictures and its numbers."""

from etils import epath

from decern_jax.io import storage
from decern_jax.report import gallery, notes, page, summary, tables
from decern_jax.report.comparison import Comparison

PAGE_FILE = "report.html"
FIGURE_FOLDER = "figures"


def check_folder(folder: epath.PathLike) -> None:
  """Makes the folder of a report, and checks that it can be written.

  Args:
    folder: The folder.

  Raises:
    ValueError: If it is a file or cannot be written.
  """
  try:
    storage.check_writable(folder)
  except OSError as error:
    raise ValueError(
      f"Expected a folder for the report that can be written, got {folder}:"
      f" {error}."
    ) from None


def write(
  runs: Comparison,
  folder: epath.PathLike,
  *,
  pool: gallery.PoolView | None = None,
  full_data: Comparison | None = None,
) -> epath.Path:
  """Writes the report on a comparison.

  The folder then holds `report.html`, which needs no other file; the numbers as
  `report.json`, `summary.csv`, `accuracy.csv` and `pairs.csv`; and the pictures
  in `figures`. Files of those names are replaced.

  Args:
    runs: The runs.
    folder: The folder, made if it is not there.
    pool: What is known of the pool's images; None: nothing, and the pictures of
      what was selected are left out.
    full_data: Runs on all labels, for the upper bound; None: it is left out.

  Returns:
    The page.

  Raises:
    ValueError: If the folder cannot be written, or the pool or the runs on all
      labels do not fit the runs.
  """
  folder = storage.as_path(folder)
  if pool is not None:
    gallery.check_pool(runs, pool)
  numbers = summary.summarize(runs, full_data=full_data)
  check_folder(folder)
  lines = notes.notes_on(numbers)
  pictures = gallery.draw(runs, numbers, folder / FIGURE_FOLDER, pool=pool)
  tables.write(numbers, lines, folder)
  path = folder / PAGE_FILE
  tables.write_text(path, page.render(numbers, lines, pictures))
  return path
