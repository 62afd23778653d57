"""Tests of decern_jax/data/sources.py."""

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from decern_jax.data import sources
from decern_jax.data.specs import DATASETS

PIXELS = np.full((6, 8, 3), 7, np.uint8)


def fake_source(self, split, **unused):
  """Stands in for `as_data_source` of any builder under `mock_data`."""
  image = cv2.imencode(".png", PIXELS)[1].tobytes()
  return [{"image": image, "label": label} for label in range(5)]


class TestLoad:
  def test_image_folder_is_read_from_path(self, tmp_path):
    for name in ("train/a", "train/b", "test/b"):
      (tmp_path / name).mkdir(parents=True)
      cv2.imwrite(str(tmp_path / name / "0.png"), PIXELS)
    cache_dir = tmp_path / "cache"
    dataset = sources.load(
      "image_folder", path=tmp_path, num_workers=1, cache_dir=cache_dir
    )
    assert dataset.train.ids == ("train/a/0.png", "train/b/0.png")
    assert len(list(cache_dir.iterdir())) == 1

  @pytest.mark.parametrize("path", [None, ""])
  def test_rejects_image_folder_without_path(self, path):
    with pytest.raises(ValueError, match="`path`, the folder .* got None"):
      sources.load("image_folder", path=path, num_workers=1)

  def test_rendered_needs_nothing(self):
    dataset = sources.load("rendered", num_workers=1)
    assert len(dataset.class_names) > 1
    assert dataset.train.read(0).shape[-1] == 3

  def test_rejects_path_for_rendered(self):
    with pytest.raises(ValueError, match="no `path`.* got 'photos'"):
      sources.load("rendered", path="photos", num_workers=1)

  def test_every_row_of_tfds_loads_from_mock_data(self):
    rows = [name for name, spec in DATASETS.items() if spec.source == "tfds"]
    for name in rows:
      with tfds.testing.mock_data(as_data_source_fn=fake_source):
        dataset = sources.load(name, num_workers=1)
      assert dataset.train.labels.tolist() == [0, 1, 2, 3, 4]
      assert (dataset.test.read(2) == PIXELS).all()

  def test_path_is_the_data_dir_of_tfds(self, tmp_path):
    with pytest.raises(ValueError, match=f"--data_dir={tmp_path}"):
      sources.load("caltech_birds2011", path=tmp_path, num_workers=1)

  def test_published_numbers_are_checked(self, monkeypatch):
    spec = DATASETS["caltech_birds2011"]._replace(num_classes=555)
    monkeypatch.setitem(DATASETS, "more_birds", spec)
    with (
      tfds.testing.mock_data(as_data_source_fn=fake_source),
      pytest.raises(ValueError, match="Expected 555 classes .* got 200"),
    ):
      sources.load("more_birds", num_workers=1)

  def test_rejects_unknown_name(self):
    expected = r"Unknown dataset 'cub'; expected one of \['caltech_birds2011', "
    with pytest.raises(ValueError, match=expected):
      sources.load("cub", num_workers=1)

  def test_every_row_has_a_reader(self):
    assert {spec.source for spec in DATASETS.values()} == set(sources._LOADERS)
