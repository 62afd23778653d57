"""Tests of decoded images, of colors and of bands."""

import io

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image, ImageOps
import pytest

from decern_jax.data.decoding import (
  MAX_PIXELS,
  check_band_range,
  decode_image,
  read_bands,
  scale_bands,
)
from tests import tiny
from tests.table import each

FILES = {
  "jpeg": ("JPEG", {"quality": 90}),
  "progressive jpeg": ("JPEG", {"progressive": True}),
  "png": ("PNG", {}),
  "webp": ("WEBP", {}),
  "lossless webp": ("WEBP", {"lossless": True}),
  "bmp": ("BMP", {}),
  "gif": ("GIF", {}),
  "tiff": ("TIFF", {}),
  "lzw tiff": ("TIFF", {"compression": "tiff_lzw"}),
}
each_file = pytest.mark.parametrize("file", FILES)


def picture(height: int = 48, width: int = 64) -> Image.Image:
  """A smooth picture without symmetry."""
  noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
  return Image.fromarray(noise).resize(
    (width, height), Image.Resampling.BICUBIC
  )


def encode(image: Image.Image, fmt: str, **options) -> bytes:
  stream = io.BytesIO()
  image.save(stream, fmt, **options)
  return stream.getvalue()


def encoded(file: str) -> bytes:
  fmt, options = FILES[file]
  return encode(picture(), fmt, **options)


def with_pillow(data: bytes) -> np.ndarray:
  return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


class TestDecodeImage:
  @each_file
  def test_matches_pillow(self, file):
    data = encoded(file)
    pixels = decode_image(data)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, with_pillow(data))

  def test_lossless_file_gives_the_pixels_that_were_written(self):
    pixels = decode_image(encoded("png"))
    np.testing.assert_array_equal(pixels, np.asarray(picture()))

  @each("mode", ["1", "L", "LA", "P", "RGBA"])
  @each("fmt", ["PNG", "TIFF"])
  def test_color_mode_becomes_rgb(self, mode, fmt):
    data = encode(picture().convert(mode), fmt)
    np.testing.assert_array_equal(decode_image(data), with_pillow(data))

  @each(
    "fmt, options",
    [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})],
  )
  def test_alpha_is_dropped(self, fmt, options):
    image = picture()
    ramp = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)
    image.putalpha(Image.fromarray(ramp))
    pixels = decode_image(encode(image, fmt, **options))
    np.testing.assert_array_equal(pixels, np.asarray(picture()))

  def test_transparent_palette_keeps_its_colors(self):
    image = picture().quantize(16)
    colors = np.asarray(image.convert("RGB"))
    data = encode(image, "PNG", transparency=bytes(range(0, 256, 16)))
    np.testing.assert_array_equal(decode_image(data), colors)

  def test_cmyk_is_converted(self):
    data = encode(picture().convert("CMYK"), "JPEG")
    error = decode_image(data).astype(int) - with_pillow(data)
    assert np.abs(error).max() <= 1

  @each("extension", [".png", ".tiff"])
  @each("channels", [1, 3])
  def test_sixteen_bits_are_scaled_to_eight(self, extension, channels):
    samples = np.linspace(0, 65535, 48 * 64).astype(np.uint16).reshape(48, 64)
    image = np.repeat(samples[..., None], channels, axis=-1)
    data = cv2.imencode(extension, image)[1].tobytes()
    error = decode_image(data) - samples[..., None] / 257
    assert np.abs(error).max() < 1

  @each("orientation", range(1, 9))
  @each("fmt", ["JPEG", "PNG", "TIFF", "WEBP"])
  def test_exif_orientation_is_applied(self, fmt, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(picture(), fmt, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode_image(data), np.asarray(upright))

  @each(
    "fmt, options",
    [("GIF", {}), ("MPO", {}), ("PNG", {}), ("WEBP", {"lossless": True})],
  )
  def test_several_frames_give_the_first(self, fmt, options):
    frames = [picture().rotate(180)]
    data = encode(
      picture(), fmt, save_all=True, append_images=frames, **options
    )
    np.testing.assert_array_equal(decode_image(data), with_pillow(data))

  @each_file
  @each("tail", [b"\0", bytes(500), b"<html>" * 50])
  def test_trailing_bytes_are_ignored(self, file, tail):
    data = encoded(file)
    np.testing.assert_array_equal(decode_image(data + tail), decode_image(data))

  @each_file
  @each("share", [0.02, 0.3, 0.6, 0.9, 0.99])
  def test_rejects_truncated_file(self, file, share, capfd):
    data = encoded(file)
    with pytest.raises(ValueError, match=r"Image does not decode|no known"):
      decode_image(data[: int(share * len(data))])
    assert capfd.readouterr() == ("", "")

  @each("filler", [b"\0", b"\x55", b"\xff\xda"])
  def test_rejects_jpeg_whose_second_half_never_arrived(self, filler):
    data = encoded("jpeg")
    half = len(data) // 2
    with pytest.raises(ValueError, match="Image does not decode"):
      decode_image(data[:half] + filler * half)

  @each("data", [b"", b"hello", b"<html></html>" * 99])
  def test_rejects_what_is_no_image(self, data):
    with pytest.raises(ValueError, match=f"got {len(data)} bytes"):
      decode_image(data)

  def test_rejects_more_pixels_than_the_limit(self):
    side = int(MAX_PIXELS**0.5) + 1
    with pytest.raises(ValueError, match=f"{MAX_PIXELS} .* {side} x {side}"):
      decode_image(tiny.png_header(side, side))

  def test_rejects_decompression_bomb(self):
    with pytest.raises(ValueError, match="3600000000 pixels"):
      decode_image(tiny.png_header(60000, 60000))

  @each("options", [{}, {"progressive": True}])
  def test_rejects_jpeg_that_announces_more_pixels(self, options):
    data = bytearray(encode(picture(), "JPEG", **options))
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    data[frame + 5 : frame + 9] = (60000).to_bytes(2) * 2
    with pytest.raises(ValueError, match="got 60000 x 60000"):
      decode_image(bytes(data))

  @each("mode", ["F", "I"])
  def test_rejects_samples_of_unknown_range(self, mode):
    with pytest.raises(ValueError, match=f"got mode '{mode}'"):
      decode_image(encode(picture().convert(mode), "TIFF"))

  def test_shared_photos_match_pillow(self, shared_dir):
    photos = sorted((shared_dir / "data/grocery_store/val").glob("*/*.jpg"))
    for photo in photos[::20]:
      data = photo.read_bytes()
      np.testing.assert_array_equal(decode_image(data), with_pillow(data))


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
    values = np.array([[[-1.0, 0.0, 0.5, 1.0, 7.0]]], np.float32)
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


class TestScaleBandsProperties:
  @settings(max_examples=40, deadline=None, derandomize=True)
  @given(
    st.lists(st.integers(-(10**4), 10**4), min_size=1, max_size=6),
    st.integers(-(10**4), 10**4),
    st.integers(1, 10**4),
  )
  def test_values_keep_their_order_within_the_range(self, values, low, width):
    bands = np.array(values, np.int32).reshape(1, -1, 1)
    scaled = scale_bands(bands, band_range=(low, low + width)).ravel()
    for value, found in zip(values, scaled, strict=True):
      exact = 255 * min(max((value - low) / width, 0), 1)
      assert abs(found - exact) < 0.51
