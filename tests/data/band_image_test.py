"""Tests of decern_jax/data/band_image.py."""

import cv2
import numpy as np
import pytest

from decern_jax.data.band_image import (
  check_band_range,
  read_bands,
  scale_bands,
)
from tests.table import each

BANDS = np.random.default_rng(0).integers(0, 10_000, (6, 8, 12), np.uint16)


class TestReadBands:
  @each("dtype", [np.uint8, np.uint16, np.float32])
  @each("suffix", [".npy", ".npz", ".NPY", ".tif"])
  def test_reads_what_was_written(self, tmp_path, dtype, suffix):
    bands, path = (BANDS % 250).astype(dtype), tmp_path / f"a{suffix}"
    if suffix == ".npz":
      np.savez_compressed(path, bands)
    elif suffix == ".tif":
      pages = [np.ascontiguousarray(band) for band in np.moveaxis(bands, -1, 0)]
      assert cv2.imwritemulti(str(path), pages)
    else:
      with path.open("wb") as stream:
        np.save(stream, bands)
    found = read_bands(path, band_range=(0.0, 255.0))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, bands)

  def test_colors_of_a_tiff_are_in_the_order_of_the_file(self, tmp_path):
    path = tmp_path / "a.tif"
    colors = (BANDS[..., :3] % 250).astype(np.uint8)
    cv2.imwrite(str(path), colors[..., ::-1])
    np.testing.assert_array_equal(read_bands(path), colors)

  def test_one_band_has_an_axis(self, tmp_path):
    np.save(tmp_path / "a.npy", BANDS[..., 0].astype(np.uint8))
    assert read_bands(tmp_path / "a.npy").shape == (6, 8, 1)

  @each(
    "name, content, match",
    [
      ("a.png", b"", "'.npy', .* got .*a.png"),
      ("a.npy", b"not an array", "an array in .*a.npy, got"),
      ("a.npz", b"PK\x03\x04 no archive", "an array in .*a.npz, got"),
      ("a.tif", b"not a tiff", "a band per page.*Save it as .npy"),
      ("a.tif", b"", "a band per page"),
    ],
  )
  def test_rejects_what_is_no_image(self, tmp_path, name, content, match):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=match):
      read_bands(tmp_path / name)

  def test_rejects_several_arrays_and_objects(self, tmp_path):
    np.savez(tmp_path / "a.npz", a=BANDS, b=BANDS)
    with pytest.raises(ValueError, match=r"got \['a', 'b'\]"):
      read_bands(tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="b.npy"):
      read_bands(tmp_path / "b.npy")

  @each("shape", [(3,), (2, 2, 2, 2), (0, 4, 3)])
  def test_rejects_other_shapes(self, tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="height, width, bands"):
      read_bands(tmp_path / "a.npy")

  def test_missing_file_is_an_os_error(self, tmp_path):
    with pytest.raises(FileNotFoundError):
      read_bands(tmp_path / "a.npy")


class TestScaleBands:
  def test_matches_naive_formula(self):
    found = scale_bands(BANDS, band_range=(100.0, 5000.0))
    for value, expected in zip(found.flat, BANDS.flat, strict=True):
      share = min(max((float(expected) - 100.0) / 4900.0, 0.0), 1.0)
      assert abs(float(value) - 255.0 * share) <= 0.5 + 1e-3

  def test_ends_of_the_range_are_0_and_255(self):
    values = np.float32([[[-1.0, 0.0, 0.5, 1.0, 7.0]]])
    found = scale_bands(values, band_range=(0.0, 1.0))
    assert found.tolist() == [[[0, 0, 128, 255, 255]]]

  def test_each_band_may_have_its_own_range(self):
    ranges = tuple((0.0, 1000.0 * (i + 1)) for i in range(12))
    found = scale_bands(BANDS, band_range=ranges)
    for i in range(12):
      expected = scale_bands(BANDS[..., i : i + 1], band_range=ranges[i])
      np.testing.assert_array_equal(found[..., i : i + 1], expected)

  def test_uint8_stays_as_it_is_without_a_range(self):
    bands = BANDS.astype(np.uint8)
    assert scale_bands(bands) is bands

  def test_rejects_other_types_without_a_range(self):
    with pytest.raises(ValueError, match="`band_range`.* of uint16, got None"):
      scale_bands(BANDS)

  @each("value", [np.nan, np.inf])
  def test_rejects_what_is_not_finite(self, value):
    with pytest.raises(ValueError, match="finite"):
      scale_bands(np.full((1, 1, 3), value, np.float32), band_range=(0.0, 1.0))


class TestCheckBandRange:
  @each("band_range", [(1.0, 1.0), (2.0, 1.0), (1.0,), ((0, 1), (3, 2)), 7.0])
  def test_rejects_what_does_not_rise(self, band_range):
    with pytest.raises(ValueError, match="low < high, got"):
      check_band_range(band_range)

  def test_rejects_another_number_of_bands(self):
    with pytest.raises(ValueError, match="1 or 12 bands, got 2"):
      check_band_range(((0.0, 1.0), (0.0, 1.0)), num_bands=12)
