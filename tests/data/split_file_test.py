"""Tests of decern_jax/data/split_file.py."""

import json
import pathlib
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from decern_jax.data.split_file import ListedImage, read_split_file
from tests.table import each

# "Faces" is class 0 here and sorts first in CoOp's file too.
TRAIN = [
  ["pagoda/image_0002.jpg", 1, "pagoda"],
  ["Faces/image_0001.jpg", 0, "face"],
  ["pagoda/image_0001.jpg", 1, "pagoda"],
]
TEST = [["Faces/image_0009.jpg", 0, "face"]]


@pytest.fixture
def write(tmp_path):
  """Writes a split file of some content, a good one if none is given."""

  def write_file(content=None, **parts) -> pathlib.Path:
    good = {"train": TRAIN, "val": ["left", "out"], "test": TEST}
    file = tmp_path / "split.json"
    file.write_text(json.dumps(good | parts if content is None else content))
    return file

  return write_file


class TestListedImage:
  def test_key_has_the_folder_in_lower_case(self):
    image = ListedImage("Faces/Image_0001.JPG", 0)
    assert image.key == "faces/Image_0001.JPG"


class TestReadSplitFile:
  def test_parts_keep_the_order_of_the_file(self, write):
    split = read_split_file(write())
    assert split.splits["train"] == (
      ListedImage("pagoda/image_0002.jpg", 1),
      ListedImage("Faces/image_0001.jpg", 0),
      ListedImage("pagoda/image_0001.jpg", 1),
    )
    assert split.splits["test"] == (ListedImage("Faces/image_0009.jpg", 0),)

  def test_class_names_are_in_the_order_of_labels(self, write):
    assert read_split_file(write()).class_names == ("face", "pagoda")

  def test_other_lists_are_left_out(self, write):
    assert set(read_split_file(write()).splits) == {"train", "test"}

  def test_home_folder_is_understood(self, write, monkeypatch):
    monkeypatch.setenv("HOME", str(write().parent))
    assert len(read_split_file("~/split.json").splits["train"]) == 3

  def test_rejects_missing_file(self, tmp_path):
    for path in (tmp_path / "nowhere.json", tmp_path):
      with pytest.raises(ValueError, match=f"a split file, {path} does not"):
        read_split_file(path)

  @each("data", [b"<html>", b"\xff\xfe", b"", b"[" * 100000])
  def test_rejects_what_is_no_json(self, tmp_path, data):
    file = tmp_path / "split.json"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"Expected JSON in .*split.json, got"):
      read_split_file(file)

  @each(
    "content, found",
    [
      ([TRAIN, TEST], "got list"),
      (None, r"got \['train'\]"),
      ({"train": TRAIN, "test": []}, r"got \['test', 'train'\]"),
      ({"train": {"a": 1}, "test": TEST}, r"got \['test', 'train'\]"),
      ({}, "got dict"),
    ],
  )
  def test_rejects_missing_list(self, write, content, found):
    content = {"train": TRAIN} if content is None else content
    with pytest.raises(ValueError, match=f"lists .*'train', 'test'.*{found}"):
      read_split_file(write(content))

  @each(
    "entry",
    [
      "Faces/image_0009.jpg",
      ["Faces/image_0009.jpg", 0],
      [7, 0, "face"],
      ["image_0009.jpg", 0, "face"],
      ["101_ObjectCategories/Faces/image_0009.jpg", 0, "face"],
      ["Faces/", 0, "face"],
      ["Faces/image_0009.jpg", -1, "face"],
      ["Faces/image_0009.jpg", "0", "face"],
      ["Faces/image_0009.jpg", True, "face"],
      ["Faces/image_0009.jpg", 0, None],
    ],
  )
  def test_rejects_entry_of_another_kind(self, write, entry):
    with pytest.raises(ValueError, match="position 1 of 'test' in") as info:
      read_split_file(write(test=[*TEST, entry]))
    assert str(info.value).endswith(f"got {entry!r}.")

  def test_rejects_two_names_of_a_label(self, write):
    test = [["Faces/image_0009.jpg", 0, "faces"]]
    with pytest.raises(ValueError, match=r"one class name of each.*\[0\]"):
      read_split_file(write(test=test))

  def test_rejects_two_labels_of_a_name(self, write):
    test = [["Faces/image_0009.jpg", 2, "face"]]
    with pytest.raises(ValueError, match=r"one label of each.*\[face\]"):
      read_split_file(write(test=test))

  def test_rejects_labels_with_a_gap(self, write):
    train = [*TRAIN, ["yin_yang/image_0001.jpg", 3, "yin_yang"]]
    with pytest.raises(ValueError, match=r"0 to 2 for the 3 .* none of \[2\]"):
      read_split_file(write(train=train))

  def test_rejects_image_that_is_listed_twice(self, write):
    test = [["faces/image_0001.jpg", 0, "face"]]  # in train, in another case
    with pytest.raises(ValueError, match=r"once .*\[faces/image_0001\.jpg\]"):
      read_split_file(write(test=test))

  def test_rejects_class_without_training_image(self, write):
    test = [*TEST, ["yin_yang/image_0001.jpg", 2, "yin_yang"]]
    with pytest.raises(ValueError, match=r"'train' of .* none of \[yin_yang\]"):
      read_split_file(write(test=test))


JSON = st.recursive(
  st.none()
  | st.booleans()
  | st.integers(-3, 3)
  | st.sampled_from(["a", "a/b"]),
  lambda inner: st.lists(inner, max_size=3),
  max_leaves=6,
)


class TestProperties:
  @settings(max_examples=40, deadline=None, derandomize=True)
  @given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=6), st.data())
  def test_any_content_is_a_split_or_refused(self, folders, data):
    classes = sorted(set(folders))
    train = [
      [f"{name}/{i}.jpg", classes.index(name), name]
      for i, name in enumerate(folders)
    ]
    test = [["a/test.jpg", 0, classes[0]]]
    is_changed = data.draw(st.booleans())
    if is_changed:
      test.append(data.draw(JSON))
    with tempfile.TemporaryDirectory() as folder:
      file = pathlib.Path(folder) / "split.json"
      file.write_text(json.dumps({"train": train, "test": test}))
      if is_changed:
        with pytest.raises(ValueError, match="position 1 of 'test'"):
          read_split_file(file)
        return
      found = read_split_file(file)
    assert found.class_names == tuple(classes)
    assert [[i.path, i.label] for i in found.splits["train"]] == [
      entry[:2] for entry in train
    ]
