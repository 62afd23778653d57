"""Tests of decern_jax/annotation/page/picture.py."""

import io
import os

import numpy as np
from PIL import Image
import pytest

from decern_jax.annotation.page import picture
from decern_jax.data import decoding
from decern_jax.io import storage
from tests.io import fake_store
from tests.table import each

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


@pytest.fixture
def show(tmp_path):
  """Writes an image as Pillow does, and returns what the page gets."""

  def show(image, name="image.png", **options):
    image.save(tmp_path / name, **options)
    media_type, content = picture.render(os.fspath(tmp_path / name))
    with Image.open(io.BytesIO(content)) as shown:
      assert shown.get_format_mimetype() == media_type
      assert shown.mode == "RGB"
      return media_type, np.asarray(shown)

  return show


class TestRender:
  def test_small_image_keeps_every_pixel(self, show):
    media_type, shown = show(Image.fromarray(PIXELS))
    assert media_type == "image/png"
    np.testing.assert_array_equal(shown, PIXELS)

  def test_large_image_is_reduced(self, show):
    media_type, shown = show(Image.new("RGB", (4000, 1000), (10, 200, 30)))
    assert media_type == "image/jpeg"
    assert shown.shape == (picture.MAX_SIDE // 4, picture.MAX_SIDE, 3)
    assert np.abs(shown.astype(int) - (10, 200, 30)).max() < 4

  def test_narrow_image_keeps_a_pixel(self, show):
    _, shown = show(Image.new("RGB", (1, 5000)))
    assert shown.shape == (picture.MAX_SIDE, 1, 3)

  def test_one_pixel_is_shown(self, show):
    assert show(Image.new("RGB", (1, 1)))[1].shape == (1, 1, 3)

  def test_is_upright_as_training_sees_it(self, show, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    _, shown = show(Image.fromarray(PIXELS), "turned.jpg", exif=exif)
    data = (tmp_path / "turned.jpg").read_bytes()
    np.testing.assert_array_equal(shown, decoding.decode_image(data))
    assert shown.shape == (30, 20, 3)

  @each(
    "mode, name",
    [
      ("CMYK", "a.tiff"),
      ("CMYK", "a.jpg"),
      ("L", "a.bmp"),
      ("RGBA", "a.png"),
      ("P", "a.gif"),
      ("1", "a.tiff"),
    ],
  )
  def test_shows_what_browsers_may_not(self, show, mode, name):
    assert show(Image.new(mode, (8, 8)), name)[1].shape == (8, 8, 3)

  def test_shows_an_image_in_a_store(self):
    with fake_store.installed():
      content = io.BytesIO()
      Image.fromarray(PIXELS).save(content, "PNG")
      storage.write_atomically("gs://bucket/a.png", content.getvalue())
      media_type, content = picture.render("gs://bucket/a.png")
      assert media_type == "image/png"
      with pytest.raises(ValueError, match=r"b\.png' cannot be read"):
        picture.render("gs://bucket/b.png")

  def test_shows_16_bits(self, show):
    values = np.full((4, 4), 0x8000, np.uint16)
    assert np.all(show(Image.fromarray(values))[1] == 0x80)


class TestRenderErrors:
  def check(self, path, message):
    with pytest.raises(ValueError, match=message):
      picture.render(os.fspath(path))

  def test_names_a_file_that_is_missing(self, tmp_path):
    self.check(tmp_path / "gone.png", r"gone\.png' cannot be read: No such")

  def test_refuses_a_folder(self, tmp_path):
    self.check(tmp_path, "Expected a file, got a folder")

  def test_refuses_a_pipe_without_waiting(self, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    self.check(tmp_path / "pipe", "Expected a file, got a folder or device")

  def test_refuses_a_device_without_end(self):
    self.check("/dev/zero", "Expected a file, got a folder or device")

  def test_refuses_what_is_no_image(self):
    self.check("/etc/passwd", "no known format")

  def test_refuses_a_name_that_cannot_be(self):
    self.check("a\0b", "null byte")

  def test_refuses_a_torn_image(self, tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:200])
    self.check(tmp_path / "a.png", "does not decode")

  def test_refuses_a_file_above_the_limit(self, tmp_path):
    with open(tmp_path / "huge.png", "wb") as file:
      file.truncate(picture.MAX_BYTES + 1)
    self.check(tmp_path / "huge.png", f"at most {picture.MAX_BYTES} bytes")

  def test_refuses_a_bomb(self, tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_PIXELS", 100)
    Image.new("RGB", (20, 20)).save(tmp_path / "bomb.png")
    self.check(tmp_path / "bomb.png", "at most 100 pixels, got 20 x 20")
