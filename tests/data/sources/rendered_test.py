"""Tests of `data.rendered`."""

from concurrent import futures

import numpy as np
import pytest

from decern_jax.data.rendering.butterfly import PARTS
from decern_jax.data.sources import rendered
from tests.table import each


def class_means(part, count):
  """Mean picture of each class, float [classes, pixels]."""
  means = []
  for label in range(part.labels.max() + 1):
    members = np.flatnonzero(part.labels == label)[:count]
    pictures = [part.read(int(i)).astype(float) for i in members]
    means.append(np.mean(pictures, axis=0).ravel())
  return np.array(means)


class TestLoadRendered:
  def test_has_the_sizes_asked_for(self):
    data = rendered.load_rendered(
      num_classes=5, train_per_class=10, test_per_class=3
    )
    assert len(data.class_names) == 5
    assert len(data.train.ids) == 50
    assert data.test is not None
    np.testing.assert_array_equal(np.bincount(data.test.labels), [3] * 5)
    assert data.val is None

  def test_class_sizes_lie_within_40_percent(self):
    labels = rendered.load_rendered().train.labels
    sizes = np.bincount(labels)
    assert sizes.min() >= 30
    assert sizes.max() <= 70
    assert sizes.sum() == 36 * 50

  def test_picture_is_independent_of_the_order_of_reading(self):
    first, second = rendered.load_rendered(), rendered.load_rendered()
    expected = [first.train.read(i) for i in (0, 1, 2)]
    found = [second.train.read(i) for i in (2, 1, 0)][::-1]
    np.testing.assert_array_equal(expected, found)

  def test_picture_is_the_same_in_threads(self):
    read = rendered.load_rendered().train.read
    with futures.ThreadPoolExecutor(4) as pool:
      found = list(pool.map(read, range(16)))
    np.testing.assert_array_equal(found, [read(i) for i in range(16)])

  def test_ids_tell_part_and_position(self):
    data = rendered.load_rendered()
    assert data.train.ids[12] == "train/00012"
    assert data.test is not None
    assert data.test.ids[0] == "test/00000"
    assert len(set(data.train.ids)) == len(data.train.labels)

  def test_class_names_tell_the_parts(self):
    names = rendered.load_rendered(num_classes=2).class_names
    assert names[1] == "one-bar ring orange-tip pale-hem"

  def test_every_value_of_a_part_is_frequent(self):
    kinds = rendered.rendered_classes()[:36]
    for part, values in zip(PARTS, zip(*kinds, strict=True), strict=True):
      counts = [values.count(value) for value in PARTS[part]]
      assert min(counts) >= 6

  def test_pictures_differ_by_position_part_and_seed(self):
    data, other = rendered.load_rendered(), rendered.load_rendered(seed=1)
    pictures = [data.train.read(0), data.train.read(1)]
    assert data.test is not None
    pictures += [data.test.read(0), other.train.read(0)]
    digests = {picture.tobytes() for picture in pictures}
    assert len(digests) == 4

  def test_fingerprint_tells_the_arguments(self):
    default = rendered.load_rendered().fingerprint
    assert rendered.load_rendered().fingerprint == default
    assert rendered.load_rendered(seed=1).fingerprint != default
    assert rendered.load_rendered(num_classes=35).fingerprint != default

  def test_more_classes_keep_the_first(self):
    few, many = (
      rendered.load_rendered(num_classes=count).class_names
      for count in (10, 20)
    )
    assert many[:10] == few

  def test_pool_is_not_in_order_of_class(self):
    labels = rendered.load_rendered().train.labels
    assert (np.diff(labels) < 0).mean() > 0.3

  def test_most_classes_have_a_twin_that_differs_in_one_part(self):
    kinds = rendered.rendered_classes()[:36]
    differing = [
      sorted(
        sum(a != b for a, b in zip(kind, other, strict=True))
        for other in kinds
        if other != kind
      )[0]
      for kind in kinds
    ]
    assert np.mean(np.array(differing) == 1) > 0.5

  def test_class_means_say_little_of_the_class(self):
    # Pose and light hide the parts from a comparison pixel by pixel.
    data = rendered.load_rendered(num_classes=6, train_per_class=20)
    means = class_means(data.train, 10)
    assert data.test is not None
    pictures = np.array(
      [data.test.read(i).astype(float).ravel() for i in range(60)]
    )
    distance = ((pictures[:, None] - means[None]) ** 2).sum(axis=2)
    accuracy = (distance.argmin(axis=1) == data.test.labels[:60]).mean()
    assert accuracy < 0.5

  @each(
    "options, match",
    [
      ({"num_classes": 1}, "2 <= `num_classes` <= 64, got 1"),
      ({"num_classes": 65}, "2 <= `num_classes` <= 64, got 65"),
      ({"train_per_class": 0}, "1 <= `train_per_class`, got 0"),
      ({"test_per_class": 2.5}, r"an integer 1 <= `test_per_class`, got 2\.5"),
      ({"seed": -1}, "0 <= `seed`, got -1"),
    ],
  )
  def test_rejects_options_out_of_range(self, options, match):
    with pytest.raises(ValueError, match=match):
      rendered.load_rendered(**options)


class TestLoadPretraining:
  def test_shares_no_class_with_the_rendered_set(self):
    shown = rendered.load_rendered(num_classes=64).class_names
    kept = rendered.load_pretraining().class_names
    assert set(shown).isdisjoint(kept)
    total = np.prod([len(values) for values in PARTS.values()])
    assert len(set(shown) | set(kept)) == total

  def test_shares_no_randomness_with_the_rendered_set(self):
    ours, theirs = rendered.load_pretraining(), rendered.load_rendered()
    assert ours.test is not None
    assert theirs.test is not None
    # The corner shows the background alone.
    corner = slice(0, 8)
    pictures = [
      part.read(0)[corner, corner]
      for part in (ours.train, ours.test, theirs.train, theirs.test)
    ]
    assert len({picture.tobytes() for picture in pictures}) == 4

  def test_has_the_sizes_asked_for(self):
    data = rendered.load_pretraining(
      num_classes=3, train_per_class=4, test_per_class=2
    )
    assert len(data.class_names) == 3
    assert data.train.labels.shape == (12,)
    assert data.test is not None
    np.testing.assert_array_equal(np.bincount(data.test.labels), [2, 2, 2])

  def test_rejects_more_classes_than_there_are(self):
    with pytest.raises(ValueError, match="`num_classes` <= 128, got 129"):
      rendered.load_pretraining(num_classes=129)
