"""Tests of decern_jax/data/specs.py."""

import tensorflow_datasets as tfds

from decern_jax.data.specs import DATASETS
from tests.table import each

TFDS_ROWS = [name for name, spec in DATASETS.items() if spec.source == "tfds"]

# Table of the paper: pool, test images, classes.
PUBLISHED = {
  "bronze_ding": (1470, None, 11),
  "caltech101": (4128, 2465, 100),
  "caltech_birds2011": (5994, 5794, 200),
  "food101": (75750, 25250, 101),
  "oxford_flowers102": (1020, 6149, 102),
  "oxford_iiit_pet": (3680, 3669, 37),
  "stanford_dogs": (12000, 8580, 120),
}


class TestDatasets:
  @each("name", PUBLISHED)
  def test_has_the_published_sizes(self, name):
    spec = DATASETS[name]
    sizes = spec.num_train, spec.num_test, spec.num_classes
    assert sizes == PUBLISHED[name]

  def test_names_are_sorted(self):
    assert list(DATASETS) == sorted(DATASETS)

  @each("name", TFDS_ROWS)
  def test_tfds_knows_the_row(self, name, tmp_path):
    spec = DATASETS[name]
    features = tfds.builder(spec.tfds_name, data_dir=tmp_path).info.features
    assert isinstance(features[spec.image_key], tfds.features.Image)
    assert isinstance(features[spec.label_key], tfds.features.ClassLabel)
    if spec.split_file_url is None:
      assert features[spec.label_key].num_classes == spec.num_classes
    else:
      assert isinstance(features[spec.file_key], tfds.features.Text)

  def test_split_of_caltech_leaves_out_two_classes_of_tfds(self, tmp_path):
    label = tfds.builder("caltech101", data_dir=tmp_path).info.features["label"]
    assert {"background_google", "faces_easy"} <= set(label.names)
    assert label.num_classes == DATASETS["caltech101"].num_classes + 2
