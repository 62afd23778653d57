"""Tests of decern_jax/data/decoding.py."""

import io

import cv2
import numpy as np
from PIL import Image, ImageOps
import pytest

from decern_jax.data.decoding import MAX_PIXELS, decode_image
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
  return Image.fromarray(noise).resize((width, height), Image.BICUBIC)


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
