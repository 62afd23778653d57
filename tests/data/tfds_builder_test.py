"""Tests of decern_jax/data/tfds_builder.py."""

import io

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from decern_jax.data import tfds_builder
from decern_jax.data.tfds_builder import hex_digest
from tests.data import tiny_tfds
from tests.table import each

PNG = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()


class TinyShells(tfds.core.GeneratorBasedBuilder):
  """Two examples of one class."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self) -> tfds.core.DatasetInfo:
    features = tfds.features.FeaturesDict(
      {
        "image": tfds.features.Image(),
        "label": tfds.features.ClassLabel(names=["whelk"]),
      }
    )
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, dl_manager):
    del dl_manager
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    for i in range(2):
      yield i, {"image": io.BytesIO(PNG), "label": 0}


data_dir = tiny_tfds.prepared("tiny_shells")


class TestOpenBuilder:
  def test_finds_data_that_are_not_prepared(self, tmp_path):
    builder = tfds_builder.open_builder("tiny_shells", tmp_path)
    assert builder.info.full_name == "tiny_shells/1.0.0"

  def test_rejects_unknown_name(self, tmp_path):
    with pytest.raises(ValueError, match="got 'no_such_shells'; https"):
      tfds_builder.open_builder("no_such_shells", tmp_path)


class TestIsPrepared:
  def test_agrees_with_tfds(self, data_dir, tmp_path):
    for folder, expected in ((data_dir, True), (tmp_path, False)):
      builder = tfds_builder.open_builder("tiny_shells", folder)
      assert tfds_builder.is_prepared(builder) is expected
      assert builder.is_prepared() is expected

  def test_logs_nothing_where_there_is_nothing(self, tmp_path, caplog):
    builder = tfds_builder.open_builder("tiny_shells", tmp_path)
    assert not tfds_builder.is_prepared(builder)
    assert not caplog.records


class TestCheckPrepared:
  def test_accepts_array_record(self, data_dir):
    builder = tfds_builder.open_builder("tiny_shells", data_dir)
    assert tfds_builder.check_prepared(builder) is None

  def test_rejects_empty_folder(self, tmp_path):
    builder = tfds_builder.open_builder("tiny_shells", tmp_path)
    with pytest.raises(ValueError, match=rf"{tmp_path}.*got none"):
      tfds_builder.check_prepared(builder)


class TestOpenSplit:
  def test_images_stay_encoded(self, data_dir):
    builder = tfds_builder.open_builder("tiny_shells", data_dir)
    source = tfds_builder.open_split(builder, "train")
    assert [source[i]["image"] for i in range(len(source))] == [PNG, PNG]

  def test_rejects_unprepared_data_without_a_warning(self, tmp_path, caplog):
    builder = tfds_builder.open_builder("tiny_shells", tmp_path)
    with pytest.raises(ValueError, match="decern-jax prepare tiny_shells"):
      tfds_builder.open_split(builder, "train")
    assert not caplog.records

  def test_rejects_unknown_split(self, data_dir):
    builder = tfds_builder.open_builder("tiny_shells", data_dir)
    with pytest.raises(ValueError, match=r"among \['train'\], got 'test'"):
      tfds_builder.open_split(builder, "test")


class TestCheckFeatures:
  def test_accepts_what_is_there(self, tmp_path):
    builder = tfds_builder.open_builder("tiny_shells", tmp_path)
    kinds = {"image": "Image", "label": "ClassLabel"}
    assert tfds_builder.check_features(builder, kinds) is None

  @each("key, found", [("name", "NoneType"), ("image", "Image")])
  def test_rejects_missing_feature_and_other_type(self, tmp_path, key, found):
    builder = tfds_builder.open_builder("tiny_shells", tmp_path)
    with pytest.raises(ValueError, match=f"'{key}' of .* Text, got {found} am"):
      tfds_builder.check_features(builder, {key: "Text"})


class TestHexDigest:
  def test_tells_where_a_part_ends(self):
    assert hex_digest(["ab", "c"]) != hex_digest(["a", "bc"])

  def test_text_is_its_bytes(self):
    assert hex_digest(["ä"]) == hex_digest(["ä".encode()])
    assert len(hex_digest([])) == 64
