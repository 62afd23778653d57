"""Tests of the paper's data sets in the folders that their authors release."""

import dataclasses
import json
import pathlib

import cv2
import numpy as np
import pytest
import scipy.io

from decern_jax.data import registry
from decern_jax.data.sources import DATASETS
from tests.table import each

# The value of the only color of an image tells which one it is.
IMAGES = {"a1": 10, "a2": 20, "b1": 30, "b2": 40}


def write(path: pathlib.Path, content: str) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(content, encoding="utf-8")


def write_image(path: pathlib.Path, value: int) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = np.full((4, 5, 3), value, np.uint8)
  path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def write_birds(root: pathlib.Path) -> dict[str, int]:
  paths = {
    "1": "001.Auk/a1.jpg",
    "2": "001.Auk/a2.jpg",
    "3": "002.Owl/b1.jpg",
    "4": "002.Owl/b2.jpg",
  }
  lines = "\n".join(f"{i} {path}" for i, path in paths.items())
  write(root / "CUB_200_2011" / "images.txt", lines + "\n")
  write(
    root / "CUB_200_2011" / "image_class_labels.txt", "1 1\n2 1\n3 2\n4 2\n"
  )
  write(root / "CUB_200_2011" / "train_test_split.txt", "1 1\n2 0\n3 1\n4 0\n")
  write(root / "CUB_200_2011" / "classes.txt", "1 001.Auk\n2 002.Owl\n")
  for path, value in zip(paths.values(), IMAGES.values(), strict=True):
    write_image(root / "CUB_200_2011" / "images" / path, value)
  return {"001.Auk": 0, "002.Owl": 1}


def write_flowers(root: pathlib.Path) -> dict[str, int]:
  root.mkdir(exist_ok=True)
  # Image 5 is one of the validation images, which are left out.
  labels = np.array([[1, 1, 2, 2, 2]], np.uint8)
  scipy.io.savemat(root / "imagelabels.mat", {"labels": labels})
  ids = {"trnid": [[1, 3]], "valid": [[5]], "tstid": [[2, 4]]}
  scipy.io.savemat(root / "setid.mat", ids)
  for number, value in enumerate([*IMAGES.values(), 50], 1):
    write_image(root / "jpg" / f"image_{number:05d}.jpg", value)
  return {"1": 0, "2": 1}


def write_pets(root: pathlib.Path) -> dict[str, int]:
  train = "Great_Dane_1 1 2 1\nSphynx_1 2 1 1\n"
  test = "Great_Dane_2 1 2 1\nSphynx_2 2 1 1\n"
  write(root / "annotations" / "trainval.txt", train)
  write(root / "annotations" / "test.txt", test)
  names = ("Great_Dane_1", "Great_Dane_2", "Sphynx_1", "Sphynx_2")
  for name, value in zip(names, IMAGES.values(), strict=True):
    write_image(root / "images" / f"{name}.jpg", value)
  return {"Great_Dane": 0, "Sphynx": 1}


def write_dogs(root: pathlib.Path) -> dict[str, int]:
  root.mkdir(exist_ok=True)
  folders = ("n02085620-Chihuahua", "n02086240-Shih-Tzu")
  for split, number in (("train", 1), ("test", 2)):
    paths = [f"{folder}/x_{number}.jpg" for folder in folders]
    cells = np.array([[path] for path in paths], object)
    lists = {"file_list": cells, "labels": np.array([[1], [2]])}
    scipy.io.savemat(root / f"{split}_list.mat", lists)
  paths = [f"{folder}/x_{n}.jpg" for folder in folders for n in (1, 2)]
  for path, value in zip(paths, IMAGES.values(), strict=True):
    write_image(root / "Images" / path, value)
  return {"Chihuahua": 0, "Shih-Tzu": 1}


def write_food(root: pathlib.Path) -> dict[str, int]:
  root = root / "food-101"
  write(root / "meta" / "classes.txt", "apple_pie\nwaffles\n")
  write(root / "meta" / "train.txt", "apple_pie/1\nwaffles/3\n")
  write(root / "meta" / "test.txt", "apple_pie/2\nwaffles/4\n")
  paths = ("apple_pie/1", "apple_pie/2", "waffles/3", "waffles/4")
  for path, value in zip(paths, IMAGES.values(), strict=True):
    write_image(root / "images" / f"{path}.jpg", value)
  return {"apple_pie": 0, "waffles": 1}


def write_objects(root: pathlib.Path) -> dict[str, int]:
  split = {
    "train": [["Faces/1.jpg", 0, "face"], ["yin_yang/3.jpg", 1, "symbol"]],
    "val": [["Faces/5.jpg", 0, "face"]],
    "test": [["Faces/2.jpg", 0, "face"], ["yin_yang/4.jpg", 1, "symbol"]],
  }
  write(root / "split.json", json.dumps(split))
  folder = root / "caltech-101" / "101_ObjectCategories"
  paths = ("Faces/1.jpg", "Faces/2.jpg", "yin_yang/3.jpg", "yin_yang/4.jpg")
  for path, value in zip(paths, IMAGES.values(), strict=True):
    write_image(folder / path, value)
  write_image(folder / "BACKGROUND_Google" / "1.jpg", 50)
  return {"face": 0, "symbol": 1}


RELEASES = {
  "caltech101": write_objects,
  "caltech_birds2011": write_birds,
  "food101": write_food,
  "oxford_flowers102": write_flowers,
  "oxford_iiit_pet": write_pets,
  "stanford_dogs": write_dogs,
}


def load(name: str, root: pathlib.Path, **changes):
  """Opens a release that has two images of two classes in each split."""
  sizes = {"num_classes": 2, "num_train": 2, "num_test": 2, **changes}
  split_file = root / "split.json" if name == "caltech101" else None
  options = registry.Options(path=root, num_workers=1, split_file=split_file)
  return dataclasses.replace(DATASETS[name], **sizes).load(options)


class TestRelease:
  @each("name", RELEASES)
  def test_images_and_classes_belong_together(self, name, tmp_path):
    classes = RELEASES[name](tmp_path)
    dataset = load(name, tmp_path)
    assert dataset.class_names == tuple(classes)
    assert dataset.test is not None
    for split, values in ((dataset.train, (10, 30)), (dataset.test, (20, 40))):
      assert split.labels.tolist() == [0, 1]
      found = [int(split.read(i)[0, 0, 0]) for i in range(2)]
      assert found == list(values)
    assert dataset.val is None
    assert all(id_.startswith("train/") for id_ in dataset.train.ids)

  def test_is_found_in_its_own_folder_too(self, tmp_path):
    write_birds(tmp_path)
    dataset = load("caltech_birds2011", tmp_path / "CUB_200_2011")
    assert dataset.train.ids == ("train/001.Auk/a1.jpg", "train/002.Owl/b1.jpg")

  @each(
    "field, expected",
    [
      ("num_classes", "Expected 9 classes of food101 in .*food-101, got 2"),
      ("num_train", "Expected 9 train of food101 .* got 2"),
      ("num_test", "Expected 9 test of food101 .* got 2"),
    ],
  )
  def test_refuses_another_size(self, field, expected, tmp_path):
    write_food(tmp_path)
    with pytest.raises(ValueError, match=expected):
      load("food101", tmp_path, **{field: 9})

  def test_names_missing_images(self, tmp_path):
    write_food(tmp_path)
    (tmp_path / "food-101" / "images" / "waffles" / "4.jpg").unlink()
    expected = "all 4 listed images in .*, got none for 1: waffles/4.jpg"
    with pytest.raises(ValueError, match=expected):
      load("food101", tmp_path)

  def test_names_the_release_whose_list_is_damaged(self, tmp_path):
    write_birds(tmp_path)
    write(tmp_path / "CUB_200_2011" / "train_test_split.txt", "1 1\n2 7\n")
    expected = "lists of caltech_birds2011 as published in .*KeyError"
    with pytest.raises(ValueError, match=expected):
      load("caltech_birds2011", tmp_path)

  def test_changes_its_fingerprint_with_an_image(self, tmp_path):
    write_pets(tmp_path)
    before = load("oxford_iiit_pet", tmp_path).fingerprint
    path = tmp_path / "images" / "Sphynx_1.jpg"
    pixels = np.zeros((9, 9, 3), np.uint8)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    assert load("oxford_iiit_pet", tmp_path).fingerprint != before


class TestSplitFile:
  def test_may_be_in_the_home_folder(self, tmp_path, monkeypatch):
    classes = write_objects(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    sizes = {"num_classes": 2, "num_train": 2, "num_test": 2}
    options = registry.Options(
      path=tmp_path, num_workers=1, split_file="~/split.json"
    )
    source = dataclasses.replace(DATASETS["caltech101"], **sizes)
    assert source.load(options).class_names == tuple(classes)

  @each(
    "given, found", [(None, "None"), ("none.json", "none.json, not a file")]
  )
  def test_is_needed_and_the_message_says_where_it_is(self, given, found):
    options = registry.Options(num_workers=1, split_file=given)
    with pytest.raises(
      ValueError, match=rf"got {found}\. Download it from http"
    ):
      DATASETS["caltech101"].load(options)
