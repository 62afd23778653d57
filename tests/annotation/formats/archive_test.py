"""Tests of decern_jax/annotation/formats/archive.py."""

import io
import struct
import zipfile

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from decern_jax.annotation.formats import archive
from tests.table import each


def zipped(files, method=zipfile.ZIP_DEFLATED):
  out = io.BytesIO()
  with zipfile.ZipFile(out, "w", method) as opened:
    for name, content in files.items():
      opened.writestr(name, content)
  return out.getvalue()


def unpacked(content):
  return list(archive.unpack(io.BytesIO(content)))


class TestIsArchive:
  def test_knows_zips_by_their_beginning(self):
    assert archive.is_archive(zipped({"a": b""}))
    assert archive.is_archive(zipped({}))
    assert not archive.is_archive(b"")
    assert not archive.is_archive(b"PK,label\n")


class TestFiles:
  def test_yields_what_may_hold_answers_and_no_images(self):
    files = {
      "annotations.xml": b"x",
      "a/b/default.JSON": b"y",
      "images/1.jpg": b"z",
      "noending": b"",
    }
    assert unpacked(zipped(files)) == [
      ("annotations.xml", b"x", ""),
      ("a/b/default.JSON", b"y", ""),
    ]

  @each("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
  def test_takes_other_ways_of_packing(self, method):
    content = zipped({"a.json": b"x" * 999}, method)
    assert unpacked(content) == [("a.json", b"x" * 999, "")]

  def test_writes_nothing_whatever_the_names(self, tmp_path, monkeypatch):
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    names = ["../a.json", f"{tmp_path}/b.json", "..\\c.json", "d/../../e.json"]
    found = unpacked(zipped(dict.fromkeys(names, b"x")))
    assert [name for name, _, _ in found] == names
    assert list(tmp_path.rglob("*")) == [inner]

  def test_refuses_what_grows_too_large(self, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    assert len(unpacked(zipped({"a.json": b"0" * 1000}))) == 1
    with pytest.raises(ValueError, match=r"1000 bytes.*a\.json"):
      unpacked(zipped({"a.json": b"0" * 1001}))

  def test_counts_all_files_together(self, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    files = {f"{n}.json": b"0" * 400 for n in range(3)}
    with pytest.raises(ValueError, match=r"2\.json"):
      unpacked(zipped(files))

  def test_does_not_trust_the_size_that_is_told(self, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    content = bytearray(zipped({"a.json": b"0" * 100_000}))
    central = content.rindex(b"PK\x01\x02")
    struct.pack_into("<I", content, central + 24, 10)
    struct.pack_into("<I", content, 22, 10)
    # Of such a file no more than told is unpacked, and its sum is wrong.
    ((_, unread, problem),) = unpacked(bytes(content))
    assert unread is None
    assert "CRC" in problem

  def test_images_may_be_large(self, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    content = zipped({"1.jpg": b"0" * 5000, "a.json": b"x"})
    assert unpacked(content) == [("a.json", b"x", "")]

  def test_refuses_too_many_files(self, monkeypatch):
    monkeypatch.setattr(archive, "MAX_FILES", 3)
    assert unpacked(zipped({f"{n}.jpg": b"" for n in range(3)})) == []
    with pytest.raises(ValueError, match="<= 3 files, got 4"):
      unpacked(zipped({f"{n}.jpg": b"" for n in range(4)}))

  def test_a_broken_file_costs_that_file_alone(self):
    content = bytearray(
      zipped({"a.json": b"first", "b.json": b"second"}, zipfile.ZIP_STORED)
    )
    content[content.index(b"first")] ^= 1
    first, second = unpacked(bytes(content))
    assert first[:2] == ("a.json", None)
    assert "CRC" in first[2]
    assert second == ("b.json", b"second", "")

  def test_a_password_is_told(self):
    content = bytearray(zipped({"a.json": b"first"}))
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    ((_, unread, problem),) = unpacked(bytes(content))
    assert unread is None
    assert "password" in problem

  @each("content", [b"", b"PK\x03\x04", b"PK\x05\x06xx"])
  def test_refuses_what_is_none(self, content):
    with pytest.raises(ValueError, match="valid zip"):
      unpacked(content)

  @settings(max_examples=150, deadline=None, derandomize=True)
  @given(
    st.sampled_from([0, 8, 12, 14]),
    st.dictionaries(
      st.integers(0, 299), st.integers(0, 255), min_size=1, max_size=5
    ),
  )
  def test_damage_is_a_problem_or_an_error(self, method, changes):
    content = bytearray(zipped({"a.json": b"[1, 2]" * 9, "b": b""}, method))
    for index, byte in changes.items():
      content[index % len(content)] = byte
    try:
      found = unpacked(bytes(content))
    except ValueError:
      return
    for _, unread, problem in found:
      assert (unread is None) == bool(problem)
