"""Tests of decern_jax/data/rendered_land_cover.py."""

from concurrent import futures
import hashlib

import numpy as np
import pytest

from decern_jax.data.sources.rendered_land_cover import (
  FREQUENCIES,
  load_rendered_land_cover,
)
from tests.table import each


@pytest.fixture(scope="module")
def data():
  return load_rendered_land_cover()


class TestLoadRenderedLandCover:
  def test_labels_have_exactly_their_frequencies(self, data):
    for part, size in ((data.train, 1200), (data.test, 400)):
      assert part.labels.shape == (size, 8)
      assert part.labels.dtype == np.int32
      assert set(np.unique(part.labels)) == {0, 1}
      expected = [round(share * size) for share in FREQUENCIES.values()]
      assert part.labels.sum(axis=0).tolist() == expected
    assert data.val is None

  def test_frequencies_have_a_long_tail(self, data):
    counts = data.train.labels.sum(axis=0)
    assert (np.diff(counts) < 0).all()
    assert counts[0] > 10 * counts[-1]

  def test_pictures_have_several_labels_or_none(self, data):
    sizes = np.bincount(data.train.labels.sum(axis=1))
    assert sizes[0] > 0
    assert sizes[2:].sum() > sizes[:2].sum()

  def test_ships_are_on_water(self, data):
    water, ship = (data.class_names.index(name) for name in ("water", "ship"))
    for part in (data.train, data.test):
      assert (part.labels[:, water] >= part.labels[:, ship]).all()

  def test_picture_is_small_and_of_three_colors(self, data):
    picture = data.train.read(0)
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8

  def test_is_the_same_bit_for_bit(self, data):
    again = load_rendered_land_cover()
    np.testing.assert_array_equal(data.train.labels, again.train.labels)
    order = [5, 0, 11, 3]
    expected = {i: data.train.read(i).tobytes() for i in sorted(order)}
    found = {i: again.train.read(i).tobytes() for i in order}
    assert found == expected

  def test_labels_are_those_of_the_published_measurements(self, data):
    digest = hashlib.sha256(data.train.labels.astype("<i4").tobytes())
    assert digest.hexdigest()[:16] == "076febfadffac185"

  def test_picture_is_the_same_in_threads(self, data):
    with futures.ThreadPoolExecutor(4) as pool:
      found = list(pool.map(data.train.read, range(16)))
    expected = [data.train.read(i) for i in range(16)]
    np.testing.assert_array_equal(found, expected)

  def test_pictures_differ_by_position_part_and_seed(self, data):
    other = load_rendered_land_cover(seed=1)
    pictures = [data.train.read(0), data.train.read(1)]
    pictures += [data.test.read(0), other.train.read(0)]
    assert len({picture.tobytes() for picture in pictures}) == 4

  def test_every_picture_can_be_drawn(self):
    data = load_rendered_land_cover(num_train=60, num_test=400, seed=3)
    assert data.test is not None
    for i in range(400):
      assert data.test.read(i).std() > 3.0

  def test_ids_tell_part_and_position(self, data):
    assert data.train.ids[12] == "train/00012"
    assert data.test.ids[0] == "test/00000"

  def test_fingerprint_tells_the_arguments(self, data):
    prints = [
      load_rendered_land_cover(**options).fingerprint
      for options in ({}, {"seed": 1}, {"num_train": 50}, {"num_test": 50})
    ]
    assert prints[0] == data.fingerprint
    assert len(set(prints)) == 4

  @each(
    "options, match",
    [
      ({"num_train": 24}, "25 <= `num_train`, got 24"),
      ({"num_test": 2.5}, "`num_test`, got 2.5"),
      ({"seed": -1}, "0 <= `seed`, got -1"),
    ],
  )
  def test_rejects_options_out_of_range(self, options, match):
    with pytest.raises(ValueError, match=match):
      load_rendered_land_cover(**options)
