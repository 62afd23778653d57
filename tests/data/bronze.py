"""A small release of BronzeDing, as its authors lay it out."""

from collections.abc import Iterable, Mapping, Sequence
import pathlib

import cv2
import numpy as np
import openpyxl

HEADINGS = ("", "id", "name", "age", "book", "shape")


def write_table(file: pathlib.Path, rows: Iterable[Sequence[object]]) -> None:
  """Writes an Excel file, `rows` with the headings among them."""
  book = openpyxl.Workbook()
  sheet = book.worksheets[0]
  for row in rows:
    sheet.append(list(row))
  book.save(file)


def write_release(
  folder: pathlib.Path, rows: Mapping[str, Sequence[tuple[object, object]]]
) -> pathlib.Path:
  """Writes images and tables of (name, age); an image is grey of its age.

  Returns:
    The folder complete_DATASET.
  """
  root = folder / "complete_DATASET"
  (root / "delete_png").mkdir(parents=True)
  for split, images in rows.items():
    cells = [
      (i, name, "鼎", age, "", 3) for i, (name, age) in enumerate(images)
    ]
    write_table(root / f"{split}.xlsx", [HEADINGS, *cells])
    for name, age in images:
      pixels = np.full((4, 6, 3), age, np.uint8)
      cv2.imwrite(str(root / "delete_png" / f"{name}.png"), pixels)
  return root
