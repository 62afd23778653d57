"""Tests of decern_jax/data/label_file.py."""

import pathlib
import re

import cv2
import numpy as np
import pytest

from decern_jax.data.label_table import Columns, random_splits
from decern_jax.data.sources.label_file import load_label_file
from tests.table import each

TABLE = """path,split,sea,dock
deep/a.png,train,0,1
b.png,test,1,1
c.png,train,1,0
d.png,val,0,0
"""


def write_image(path: pathlib.Path, value: int) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  cv2.imwrite(str(path), np.full((6, 8, 3), value, np.uint8))


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
  folder = tmp_path / "coast"
  names = ["deep/a.png", "b.png", "c.png", "d.png"]
  for value, name in enumerate(names):
    write_image(folder / name, value)
  (folder / "labels.csv").write_text(TABLE)
  return folder


def load(folder, *, text: str | None = None, name="labels.csv", **options):
  if text is not None:
    (folder / name).write_text(text)
  return load_label_file(
    folder / name, num_workers=2, progress=False, **options
  )


class TestLoadLabelFile:
  def test_images_and_labels_belong_together(self, folder):
    dataset = load(folder)
    assert dataset.class_names == ("sea", "dock")
    assert dataset.train.ids == ("deep/a.png", "c.png")
    assert dataset.train.labels.dtype == np.int32
    assert dataset.train.labels.tolist() == [[0, 1], [1, 0]]
    assert dataset.test is not None
    assert dataset.test.labels.tolist() == [[1, 1]]
    assert dataset.val is not None
    assert dataset.val.ids == ("d.png",)
    assert (dataset.train.read(1) == 2).all()
    assert (dataset.test.read(0) == 1).all()
    assert dataset.val.read(0).shape == (6, 8, 3)

  def test_paths_may_be_written_on_windows(self, folder):
    dataset = load(folder, text=TABLE.replace("deep/a", r"deep\a"))
    assert dataset.train.ids == (r"deep\a.png", "c.png")
    assert (dataset.train.read(0) == 0).all()

  @each("name", [r"deep\a.png", "deep/A.png", "Deep/a.png"])
  def test_rejects_two_names_of_one_file(self, folder, name):
    # Links stand for what a disk without case, or with both slashes, does.
    other = folder / name
    other.parent.mkdir(exist_ok=True)
    if not other.exists():
      other.hardlink_to(folder / "deep/a.png")
    text = f"{TABLE}{name},train,1,0\n"
    message = re.escape(f"'deep/a.png' and {name!r} (row 6), which are one fil")
    with pytest.raises(ValueError, match=message):
      load(folder, text=text)

  def test_names_that_differ_in_case_may_be_two_files(self, folder):
    write_image(folder / "C.png", 9)
    dataset = load(folder, text=f"{TABLE}C.png,train,1,0\n")
    assert dataset.train.ids == ("deep/a.png", "c.png", "C.png")

  def test_is_named_after_its_folder(self, folder):
    assert load(folder).name == "coast"

  def test_images_may_be_elsewhere(self, folder, tmp_path):
    (tmp_path / "tables").mkdir()
    dataset = load(tmp_path / "tables", text=TABLE, image_dir=folder)
    assert (dataset.train.read(1) == 2).all()

  def test_single_labels_are_positions(self, folder):
    text = (
      "path,split,label\nb.png,train,sea\nc.png,train,ant\nd.png,test,sea\n"
    )
    dataset = load(folder, text=text)
    assert dataset.class_names == ("ant", "sea")
    assert dataset.train.labels.tolist() == [1, 0]
    assert dataset.test is not None
    assert dataset.test.labels.tolist() == [1]
    assert dataset.train.labels.dtype == np.int32
    assert dataset.val is None

  def test_without_parts_draws_them_by_name(self, folder):
    for value in range(60):
      write_image(folder / f"{value}.png", value)
    rows = "".join(f"{i}.png,{i % 2},1\n" for i in range(60))
    dataset = load(folder, text="path,sea,dock\n" + rows, test_share=0.3)
    assert dataset.test is not None
    assert 8 < len(dataset.test.ids) < 28
    assert len(dataset.train.ids) + len(dataset.test.ids) == 60
    parts = random_splits(
      [f"{i}.png" for i in range(60)], test_share=0.3, seed=0
    )
    assert dataset.test.ids == tuple(
      f"{i}.png" for i in np.flatnonzero(parts == "test")
    )
    other = load(folder, test_share=0.3, split_seed=1)
    assert other.test is not None
    assert other.test.ids != dataset.test.ids
    assert other.fingerprint != dataset.fingerprint

  def test_fingerprint_changes_with_images_and_parts_not_labels(self, folder):
    first = load(folder).fingerprint
    assert load(folder, text=TABLE.replace(",0,1", ",1,1")).fingerprint == first
    moved = TABLE.replace("c.png,train", "c.png,val")
    assert load(folder, text=moved).fingerprint != first
    write_image(folder / "new.png", 9)
    (folder / "new.png").replace(folder / "c.png")
    assert load(folder, text=TABLE).fingerprint != first

  def test_warns_of_a_label_without_a_positive_in_train(self, folder, warnings):
    dataset = load(folder, text=TABLE.replace("train,1,0", "train,0,0"))
    assert dataset.train.labels[:, 0].sum() == 0
    (message,) = warnings
    assert "[sea]" in message

  def test_bands_are_scaled(self, folder):
    for value, name in enumerate("ab"):
      bands = np.full((4, 5, 12), 1000 * value, np.uint16)
      np.save(folder / f"{name}.npy", bands)
    text = "path,split,sea,dock\na.npy,train,1,1\nb.npy,test,0,1\n"
    dataset = load(folder, text=text, band_range=(0.0, 2000.0))
    assert dataset.test is not None
    assert dataset.test.read(0).shape == (4, 5, 12)
    assert (dataset.test.read(0) == 128).all()
    other = load(folder, text=text, band_range=(0.0, 1000.0))
    assert other.test is not None
    assert (other.test.read(0) == 255).all()
    assert other.fingerprint != dataset.fingerprint
    with pytest.raises(ValueError, match="row 2 .*`band_range`.* uint16"):
      load(folder, text=text)

  def test_images_of_other_numbers_of_bands_are_refused(self, folder):
    np.save(folder / "a.npy", np.zeros((4, 5, 12), np.uint8))
    np.save(folder / "b.npy", np.zeros((4, 5, 10), np.uint8))
    text = "path,split,sea,dock\na.npy,train,1,1\nb.npy,test,0,1\n"
    dataset = load(folder, text=text)
    assert dataset.train.read(0).shape == (4, 5, 12)
    assert dataset.test is not None
    with pytest.raises(ValueError, match="12 bands in .*b.npy.* got 10"):
      dataset.test.read(0)

  def test_range_makes_pages_of_a_tiff_bands(self, folder):
    pages = [np.full((4, 5), 10 * i, np.uint16) for i in range(6)]
    for name in ("a.tif", "b.tif"):
      cv2.imwritemulti(str(folder / name), pages)
    text = "path,split,sea,dock\na.tif,train,1,1\nb.tif,test,0,1\n"
    dataset = load(folder, text=text, band_range=(0.0, 255.0))
    assert dataset.train.read(0)[0, 0].tolist() == [0, 10, 20, 30, 40, 50]

  def test_shared_tiles_load(self, shared_dir, tmp_path):
    table = shared_dir / "data" / "dubai_tiles" / "labels.csv"
    with pytest.raises(ValueError, match="'region': '2' in row 71"):
      load_label_file(table, num_workers=2, progress=False)
    dataset = load_label_file(
      table,
      columns=Columns(ignored=("region",)),
      num_workers=2,
      cache_dir=tmp_path,
      progress=False,
    )
    assert dataset.class_names == (
      "water",
      "land",
      "road",
      "building",
      "vegetation",
    )
    assert dataset.test is not None
    assert len(dataset.train.ids) + len(dataset.test.ids) == 1665
    assert dataset.train.labels.sum(axis=0).tolist() == [
      353,
      951,
      684,
      516,
      439,
    ]
    assert dataset.train.read(0).shape == (128, 128, 3)

  @each(
    "text, match",
    [
      (TABLE + "no.png,train,1,1\n", r"1 of 5: no.png \(row 6\)"),
      (TABLE.replace("test", "val"), "'test': 0, 'val': 2} by its column"),
      ("path,sea,dock\nb.png,1,1\n", "by a random test share of 0.2"),
      (
        "path,split,label\nb.png,train,sea\nc.png,test,ant\n",
        r"training image of every label .* none of \[ant\]",
      ),
    ],
  )
  def test_rejects_what_cannot_be_learned(self, folder, text, match):
    with pytest.raises(ValueError, match=match):
      load(folder, text=text)

  def test_rejects_unreadable_images_by_row(self, folder):
    (folder / "c.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"1 of 4 .*c.png \(row 4: .*no known"):
      load(folder)

  def test_rejects_an_impossible_range(self, folder):
    with pytest.raises(ValueError, match=r"`band_range`.* got \(1, 0\)"):
      load(folder, band_range=(1, 0))
