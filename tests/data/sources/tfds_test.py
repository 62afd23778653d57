"""Tests of data sets of tfds."""

import io
import json
import re
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from decern_jax.data.sources import tfds as tfds_source
from decern_jax.data.sources.tfds import load_tfds, multi_hot, stack_bands
from tests.data import tiny_tfds
from tests.data.tiny_tfds import encode
from tests.table import each

SIZES = {"train": 20, "test": 9, "validation": 3}


class TinyBirds(tfds.core.GeneratorBasedBuilder):
  """A data set with two images per example, as caltech_birds2011 has."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self) -> tfds.core.DatasetInfo:
    features = tfds.features.FeaturesDict(
      {
        "image": tfds.features.Image(),
        "label": tfds.features.ClassLabel(names=["jay", "tit", "wren"]),
        "mask": tfds.features.Image(),
        "weight": np.float32,
      }
    )
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, dl_manager):
    del dl_manager
    return {name: self._generate_examples(n) for name, n in SIZES.items()}

  def _generate_examples(self, num_examples):
    for i in range(num_examples):
      yield (
        i,
        {
          "image": io.BytesIO(encode(10 * (i % 3) + 1)),
          "label": i % 3,
          "mask": io.BytesIO(b"not an image"),
          "weight": 0.5,
        },
      )


data_dir = tiny_tfds.prepared("tiny_birds")


@pytest.fixture
def no_download(monkeypatch):
  def fail(self, **unused):
    raise AssertionError("a download was started")

  monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)


def fake_source(num_examples: int, image: bytes, last_label: int = 0):
  """Stands in for `as_data_source` of any builder under `mock_data`."""

  def as_data_source(self, split, **unused):
    labels = [i % 7 for i in range(num_examples - 1)] + [last_label]
    return [{"image": image, "label": label} for label in labels]

  return as_data_source


@pytest.mark.usefixtures("no_download")
class TestLoadTfds:
  def test_images_and_labels_belong_together(self, data_dir):
    dataset = load_tfds("tiny_birds", data_dir=data_dir)
    assert dataset.train.labels.dtype == np.int32
    assert sorted(dataset.train.labels) == sorted(i % 3 for i in range(20))
    for position, label in enumerate(dataset.train.labels):
      image = dataset.train.read(position)
      assert image.shape == (6, 8, 3)
      assert (image == 10 * label + 1).all()

  def test_has_the_names_of_tfds(self, data_dir):
    dataset = load_tfds("tiny_birds", data_dir=data_dir)
    assert dataset.name == "tiny_birds"
    assert dataset.class_names == ("jay", "tit", "wren")

  def test_ids_are_split_and_position(self, data_dir):
    dataset = load_tfds("tiny_birds", data_dir=data_dir)
    assert len(dataset.train.ids) == 20
    assert dataset.train.ids[:2] == ("train/00000000", "train/00000001")
    assert dataset.test is not None
    assert dataset.test.ids[-1] == "test/00000008"

  def test_val_is_optional(self, data_dir):
    assert load_tfds("tiny_birds", data_dir=data_dir).val is None
    dataset = load_tfds("tiny_birds", data_dir=data_dir, val_split="validation")
    assert dataset.val is not None
    assert len(dataset.val.ids) == 3

  def test_split_may_be_a_part(self, data_dir):
    dataset = load_tfds(
      "tiny_birds",
      data_dir=data_dir,
      train_split="train[:50%]",
      val_split="train[50%:]",
    )
    assert dataset.val is not None
    both = [*dataset.train.labels, *dataset.val.labels]
    whole = load_tfds("tiny_birds", data_dir=data_dir).train.labels
    assert len(dataset.train.ids) == 10
    assert both == list(whole)

  def test_no_image_is_decoded_before_it_is_read(self, data_dir, monkeypatch):
    def fail(data):
      raise AssertionError("decoded")

    monkeypatch.setattr(tfds_source, "decode_image", fail)
    dataset = load_tfds("tiny_birds", data_dir=data_dir)
    with pytest.raises(AssertionError, match="decoded"):
      dataset.train.read(0)

  def test_fingerprint_changes_with_the_splits(self, data_dir):
    first = load_tfds("tiny_birds", data_dir=data_dir).fingerprint
    again = load_tfds("tiny_birds", data_dir=data_dir).fingerprint
    other = load_tfds(
      "tiny_birds", data_dir=data_dir, train_split="train[:50%]"
    ).fingerprint
    assert first == again != other

  def test_needs_neither_tensorflow_nor_the_code_of_the_builder(self, data_dir):
    script = (
      "import sys\n"
      "from decern_jax.data.sources.tfds import load_tfds\n"
      "dataset = load_tfds('tiny_birds', data_dir=sys.argv[1])\n"
      "assert dataset.test.read(8).shape == (6, 8, 3)\n"
      "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script, data_dir], check=True)

  def test_mock_of_caltech_birds_loads(self):
    source = fake_source(8, encode(5))
    with tfds.testing.mock_data(as_data_source_fn=source):
      dataset = load_tfds(
        "caltech_birds2011", num_classes=200, num_examples={"train": 5994}
      )
    assert len(dataset.class_names) == 200
    assert dataset.train.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 0]
    assert dataset.test is not None
    assert (dataset.test.read(7) == 5).all()

  def test_accepts_expected_counts(self, data_dir):
    dataset = load_tfds(
      "tiny_birds", data_dir=data_dir, num_classes=3, num_examples=SIZES
    )
    assert len(dataset.train.ids) == 20

  def test_rejects_unknown_name(self, tmp_path):
    with pytest.raises(ValueError, match="got 'no_such_birds'"):
      load_tfds("no_such_birds", data_dir=tmp_path)

  def test_rejects_unprepared_data_and_tells_the_command(self, tmp_path):
    command = (
      r"pip install 'decern_jax\[prepare\]' && decern-jax prepare "
      rf"caltech_birds2011 --data_dir={tmp_path}$"
    )
    with pytest.raises(ValueError, match=command):
      load_tfds("caltech_birds2011", data_dir=tmp_path)

  def test_command_omits_the_default_folder(self):
    with pytest.raises(ValueError, match=r"decern-jax prepare tiny_birds$"):
      load_tfds("tiny_birds")

  def test_command_names_the_config(self, tmp_path):
    with pytest.raises(ValueError, match=r"prepare eurosat/all --data_dir="):
      load_tfds("eurosat/all", data_dir=tmp_path)

  @each("fmt", ["tfrecord", "parquet"])
  def test_rejects_other_format_and_tells_the_command(
    self, data_dir, tmp_path, fmt
  ):
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    info = tmp_path / "tiny_birds" / "1.0.0" / "dataset_info.json"
    facts = json.loads(info.read_text()) | {"fileFormat": fmt}
    info.write_text(json.dumps(facts))
    expected = rf"array_record .* got \['{fmt}'\].*prepare tiny_birds --data"
    with pytest.raises(ValueError, match=expected):
      load_tfds("tiny_birds", data_dir=tmp_path)

  @each("split", ["holdout", "train[:"])
  def test_rejects_unknown_split(self, data_dir, split):
    expected = f"['test', 'train', 'validation'], got {split!r}"
    with pytest.raises(ValueError, match=re.escape(expected)):
      load_tfds("tiny_birds", data_dir=data_dir, test_split=split)

  @each(
    "options, expected",
    [
      ({"image_keys": ("photo",)}, "'photo' .* Image, got NoneType among"),
      ({"image_keys": ("weight",)}, "'weight' .* Image, got Tensor among"),
      ({"label_key": "weight"}, "'weight' .* to be a class, .* got Tensor"),
      ({"num_classes": 200}, "Expected 200 classes .* got 3"),
      ({"num_examples": {"test": 5794}}, "Expected 5794 .*'test'.* got 9"),
    ],
  )
  def test_rejects_what_does_not_fit(self, data_dir, options, expected):
    with pytest.raises(ValueError, match=expected):
      load_tfds("tiny_birds", data_dir=data_dir, **options)

  @each("label", [-1, 200])
  def test_rejects_label_outside_the_classes(self, label):
    source = fake_source(8, encode(5), last_label=label)
    expected = rf"\[0, 200\), got {label}. At position 7 of split 'train'"
    with (
      tfds.testing.mock_data(as_data_source_fn=source),
      pytest.raises(ValueError, match=expected),
    ):
      load_tfds("caltech_birds2011")


NAMES = ["field", "road", "sea", "tree"]
BANDS = {"B01": 2, "B02": 12, "B05": 6}
BIG_BANDS = ("B04", "B03", "B02", "B01")


def classes_of(i: int) -> list[int]:
  """The labels of the example whose image has the value i."""
  return [label for label in range(4) if i >> label & 1]


class TinyLand(tfds.core.GeneratorBasedBuilder):
  """A data set whose labels are there in every form."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self) -> tfds.core.DatasetInfo:
    features = {
      "image": tfds.features.Image(),
      "labels": tfds.features.Sequence(tfds.features.ClassLabel(names=NAMES)),
      "vector": tfds.features.Tensor(shape=(4,), dtype=np.int64),
      "flags": tfds.features.Sequence(np.bool_, length=4),
      "counts": tfds.features.Tensor(shape=(4,), dtype=np.int64),
    }
    for key, size in BANDS.items():
      features[key] = tfds.features.Tensor(shape=(size, size), dtype=np.float32)
    features = tfds.features.FeaturesDict(features)
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, dl_manager):
    del dl_manager
    return {"train": self._generate_examples(16)}

  def _generate_examples(self, num_examples):
    for i in range(num_examples):
      vector = [int(label in classes_of(i)) for label in range(4)]
      bands = {
        key: np.full((size, size), 100.0 * i + size, np.float32)
        for key, size in BANDS.items()
      }
      yield (
        i,
        {
          "image": io.BytesIO(encode(i)),
          "labels": classes_of(i),
          "vector": vector,
          "flags": [bool(entry) for entry in vector],
          "counts": [i] * 4,
          **bands,
        },
      )


land_dir = tiny_tfds.prepared("tiny_land")


LAND: dict[str, Any] = {
  "label_key": "labels",
  "train_split": "train[:75%]",
  "test_split": "train[75%:]",
}


def load_land(land_dir, **options):
  return load_tfds("tiny_land", data_dir=land_dir, **(LAND | options))


def source_of(examples):
  """Stands in for `as_data_source` of any builder under `mock_data`."""

  def as_data_source(self, split, **unused):
    return list(examples)

  return as_data_source


class TestLoadTfdsMultilabel:
  @each("label_key", ["labels", "vector", "flags"])
  def test_images_and_labels_belong_together(self, land_dir, label_key):
    dataset = load_land(land_dir, label_key=label_key)
    assert len(dataset.train.ids) == 12
    assert dataset.train.labels.dtype == np.int32
    for part in (dataset.train, dataset.test):
      assert part is not None
      for position, labels in enumerate(part.labels):
        image = part.read(position)
        assert image.shape == (6, 8, 3)
        assert np.flatnonzero(labels).tolist() == classes_of(image[0, 0, 0])

  def test_has_the_names_of_the_classes(self, land_dir):
    assert load_land(land_dir).class_names == tuple(NAMES)
    vector = load_land(land_dir, label_key="vector")
    assert vector.class_names == ("0", "1", "2", "3")
    assert vector.name == "tiny_land"

  def test_ids_are_split_and_position(self, land_dir):
    dataset = load_land(land_dir, val_split="train[:25%]")
    assert dataset.train.ids[0] == "train[:75%]/00000000"
    assert dataset.val is not None
    assert dataset.val.ids[-1] == "train[:25%]/00000003"
    assert load_land(land_dir).val is None

  def test_bands_of_several_sizes_are_one_image(self, land_dir):
    dataset = load_land(
      land_dir, image_keys=("B05", "B01", "B02"), band_range=(0.0, 2550.0)
    )
    image = dataset.train.read(0)
    assert image.shape == (12, 12, 3)
    i = sum(2**label for label in np.flatnonzero(dataset.train.labels[0]))
    expected = [round((100 * i + size) / 10) for size in (6, 2, 12)]
    assert image[5, 5].tolist() == expected

  def test_fingerprint_changes_with_splits_and_bands(self, land_dir):
    bands = {"image_keys": ("B02",), "band_range": (0.0, 9.0)}
    prints = [
      load_land(land_dir, **options).fingerprint
      for options in (
        {},
        {},
        {"test_split": "train[80%:]"},
        bands,
        bands | {"band_range": (0.0, 8.0)},
      )
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4

  def test_mock_of_bigearthnet_in_colors_loads(self):
    examples = [{"image": encode(5), "labels": np.array([2, 40])}] * 3
    source = source_of([*examples, {"image": encode(7), "labels": []}])
    with tfds.testing.mock_data(as_data_source_fn=source):
      dataset = load_tfds(
        "bigearthnet/rgb", num_classes=43, num_examples={}, **LAND
      )
    assert len(dataset.class_names) == 43
    assert np.flatnonzero(dataset.train.labels[0]).tolist() == [2, 40]
    assert not dataset.train.labels[3].any()
    assert dataset.test is not None
    assert (dataset.test.read(3) == 7).all()

  def test_mock_of_bigearthnet_in_all_bands_loads(self):
    sizes = {"B01": 20, "B02": 120, "B03": 120, "B04": 120}
    example = {key: np.full((n, n), 1000.0) for key, n in sizes.items()}
    source = source_of([example | {"labels": np.array([0])}])
    with tfds.testing.mock_data(as_data_source_fn=source):
      dataset = load_tfds(
        "bigearthnet/all",
        image_keys=BIG_BANDS,
        band_range=(0.0, 2000.0),
        **LAND,
      )
    image = dataset.train.read(0)
    assert image.shape == (120, 120, 4)
    assert (image == 128).all()

  @each("label", [-1, 43])
  def test_rejects_label_outside_the_classes(self, label):
    source = source_of([{"image": encode(5), "labels": np.array([label])}])
    with (
      tfds.testing.mock_data(as_data_source_fn=source),
      pytest.raises(ValueError, match=rf"43\), got {label}. At position 0 of"),
    ):
      load_tfds("bigearthnet/rgb", **LAND)

  @each(
    "options, match",
    [
      (
        {"label_key": "image"},
        "'image' of tiny_land to be a class, a sequence",
      ),
      ({"label_key": "no"}, "got None among .*'vector'"),
      ({"label_key": "counts"}, "labels 0 or 1, got .* At position"),
      ({"image_keys": ("vector",)}, "'vector' .* Image, got Tensor"),
      ({"image_keys": ("B01", "B02")}, "`band_range`.* got None"),
      (
        {"image_keys": ("image",), "band_range": (0, 1)},
        "'image' .* Tensor, got Image",
      ),
      (
        {"image_keys": ("B01",), "band_range": ((0, 1), (0, 1))},
        "1 or 1 bands, got 2",
      ),
      ({"num_classes": 43}, "Expected 43 classes .* got 4"),
      ({"num_examples": {"train": 15}}, "Expected 15 .*'train'.* got 16"),
    ],
  )
  def test_rejects_what_does_not_fit(self, land_dir, options, match):
    with pytest.raises(ValueError, match=match):
      load_land(land_dir, **options)


class TestMultiHot:
  def test_marks_the_classes(self):
    found = multi_hot([3, 0, 3], 5)
    assert found.dtype == np.int32
    assert found.tolist() == [1, 0, 0, 1, 0]

  def test_no_class_is_no_mark(self):
    assert not multi_hot([], 5).any()


class TestStackBands:
  def test_keeps_the_largest_as_it_is(self):
    large = np.arange(48.0).reshape(6, 8)
    image = stack_bands([np.full((2, 3), 9.0), large], (0.0, 255.0))
    assert image.shape == (6, 8, 2)
    np.testing.assert_array_equal(image[..., 1], large)
    assert (image[..., 0] == 9).all()
