"""Tests of decern_jax/data/specs.py."""

import pytest
import tensorflow_datasets as tfds

from decern_jax.data.specs import DATASETS

TFDS_ROWS = [name for name, spec in DATASETS.items() if spec.source == "tfds"]


class TestDatasets:
  def test_caltech_birds_has_the_published_sizes(self):
    spec = DATASETS["caltech_birds2011"]
    sizes = spec.num_train, spec.num_test, spec.num_classes
    assert sizes == (5994, 5794, 200)

  def test_names_are_sorted(self):
    assert list(DATASETS) == sorted(DATASETS)

  @pytest.mark.parametrize("name", TFDS_ROWS)
  def test_tfds_knows_the_row(self, name, tmp_path):
    spec = DATASETS[name]
    features = tfds.builder(spec.tfds_name, data_dir=tmp_path).info.features
    assert isinstance(features[spec.image_key], tfds.features.Image)
    assert features[spec.label_key].num_classes == spec.num_classes
