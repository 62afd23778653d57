"""Tests of decern_jax/annotation/formats/__init__.py."""

import io
import pathlib
import zipfile

import pytest

from decern_jax.annotation import answers, formats
from decern_jax.annotation.answers import Answer
from decern_jax.annotation.formats import archive
from tests.annotation.formats import queries
from tests.io import fake_store
from tests.table import each

GOLDEN = pathlib.Path(__file__).parent / "golden"
FILES = sorted(
  path
  for path in GOLDEN.iterdir()
  if path.suffix in (".json", ".xml", ".csv", ".tsv", ".jsonl")
)

LINES = answers.to_line(Answer("a", ("cat",)))


def zipped(**files):
  out = io.BytesIO()
  with zipfile.ZipFile(out, "w") as opened:
    for name, content in files.items():
      opened.writestr(name.replace("__", "/").replace("_", "."), content)
  return out.getvalue()


def golden(name):
  return (GOLDEN / name).read_bytes()


class TestFormats:
  @each("name", formats.FORMATS)
  def test_what_is_written_is_known_and_not_answered(self, name, tmp_path):
    # People may put a file back as it was.
    for is_multi_label in (False, True):
      asked = queries.query(is_multi_label=is_multi_label)
      for path in formats.FORMATS[name].write(asked, tmp_path):
        try:
          found = formats.detect("x", path.read_bytes())
        except ValueError:  # such as a list of images, which has no answers
          continue
        assert found == name
        assert formats.read_file(path) == ((), ())

  def test_each_module_that_declares_one_is_in_the_table(self):
    folder = pathlib.Path(formats.__file__).parent
    declared = [p for p in folder.glob("*.py") if "\nFORMAT =" in p.read_text()]
    assert len(formats.FORMATS) == len(declared) >= 6
    for name, format_ in formats.FORMATS.items():
      assert format_.name == name

  def test_all_can_be_written_into_one_folder(self, tmp_path):
    written = [
      path
      for format_ in formats.FORMATS.values()
      for path in format_.write(queries.query(), tmp_path)
    ]
    assert len({*written}) == len(written)
    assert all(path.exists() for path in written)

  @each("name", formats.FORMATS)
  def test_is_the_same_bytes_each_time(self, name, tmp_path):
    write = formats.FORMATS[name].write
    first = [path.read_bytes() for path in write(queries.query(), tmp_path)]
    again = [path.read_bytes() for path in write(queries.query(), tmp_path)]
    assert first == again

  @each("name", formats.FORMATS)
  def test_an_empty_query_is_written(self, name, tmp_path):
    for path in formats.FORMATS[name].write(queries.query(ids=()), tmp_path):
      assert path.exists()


class TestDetect:
  @each("path", FILES)
  def test_knows_the_files_of_tools_by_their_content(self, path):
    name = path.name.rpartition("_")[0].removesuffix("_single")
    name = name.removesuffix("_several")
    assert formats.detect("export", path.read_bytes()) == name
    assert formats.detect("wrong.xml", path.read_bytes()) == name

  @each(
    "name, content, expected",
    [
      ("x", b"id;label\n", "csv"),
      ("x.json", LINES, "jsonl"),
      ("x.txt", LINES * 2, "jsonl"),
      ("x", b"{broken\n" + LINES, "jsonl"),
      ("x.jsonl", b"", "jsonl"),
      ("X.JSONL", b"\xff", "jsonl"),
      ("x.csv", b"a,b\n", "csv"),
      ("x.TSV", b"", "csv"),
      ("x.xml", b"", "cvat"),
    ],
  )
  def test_knows_others(self, name, content, expected):
    assert formats.detect(name, content) == expected

  def test_looks_into_a_zip(self):
    content = zipped(
      readme_json="{}", annotations__default_json=golden("datumaro_single.json")
    )
    assert formats.detect("x.zip", content) == "datumaro"

  @each(
    "content",
    [b"", b"text", b"{}", b"[]", b"[1]", b"3", b"null", b"\x89PNG", b"<html>"]
    + [b"\0" * 100, zipped(a_json="{}"), zipped()],
  )
  def test_refuses_what_it_does_not_know_and_says_what_it_does(self, content):
    with pytest.raises(ValueError, match=r"'x\.dat' as one of") as caught:
      formats.detect("x.dat", content)
    for format_ in formats.FORMATS.values():
      assert format_.title in str(caught.value)

  def test_says_where_json_is_cut_off(self):
    content = golden("label_studio_single.json")[:-5]
    with pytest.raises(ValueError, match=r"line 1 column \d+"):
      formats.detect("export.json", content)


class TestRead:
  @each("path", FILES)
  def test_the_source_is_the_name_of_the_file(self, path):
    found = formats.read("from mira.json", path.read_bytes())
    assert {answer.source for answer in found.answers} == {"from mira.json"}

  def test_a_source_that_a_line_tells_is_another(self):
    line = answers.to_line(Answer("a", (), source="before"))
    assert formats.read("x", line).answers == (Answer("a", (), source="x"),)

  def test_reads_all_files_of_a_zip(self):
    content = zipped(
      one__default_json=golden("datumaro_single.json"),
      annotations_xml=golden("cvat_several.xml"),
      meta_json="{}",
      images__1_jpg=b"\xff",
    )
    found = formats.read("both.zip", content)
    assert len(found.answers) == 8
    assert found.problems == ()
    assert {answer.source for answer in found.answers} == {"both.zip"}

  def test_a_broken_file_in_a_zip_is_told(self):
    good = golden("datumaro_single.json")
    for bad in (good[:-9], b'{"items": [], "categories": {"label": 3'):
      found = formats.read("x.zip", zipped(a_json=good, b_json=bad))
      assert len(found.answers) == 4
      (problem,) = found.problems
      assert problem.startswith("'b.json': ")

  def test_a_file_of_no_use_in_a_zip_is_told(self):
    bad = b'{"items": 3, "categories": {}}'
    found = formats.read("x.zip", zipped(a_jsonl=LINES, b_json=bad))
    assert len(found.answers) == 1
    assert found.problems[0].startswith("'b.json': ")

  def test_a_file_of_a_zip_that_cannot_be_unpacked_is_told(self):
    table = b"id,label\na,cat\n"
    content = bytearray(zipped(a_jsonl=LINES, b_csv=table))
    content[content.index(table)] ^= 1
    found = formats.read("x.zip", bytes(content))
    assert len(found.answers) == 1
    (problem,) = found.problems
    assert "CRC" in problem

  def test_zips_in_zips_are_not_opened(self):
    inner = zipped(a_jsonl=LINES)
    with pytest.raises(ValueError, match="zip without"):
      formats.read("x.zip", zipped(inner_zip=inner))

  @each(
    "name, message",
    [
      ("x.csv", "columns id"),
      ("x.xml", "valid XML"),
      ("x.json", "valid JSON"),
      ("x.png", "one of"),
    ],
  )
  def test_says_what_is_wrong_with_a_file_of_that_name(self, name, message):
    with pytest.raises(ValueError, match=message):
      formats.read(name, b"nothing of that")


class TestReadFile:
  def test_reads_a_file(self, tmp_path):
    path = tmp_path / "an export ü.json"
    path.write_bytes(golden("label_studio_single.json"))
    found = formats.read_file(path)
    assert queries.said(found) == queries.SINGLE
    assert found.answers[0].source == path.name

  def test_reads_a_zip_with_images_of_any_size(self, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_BYTES", 10_000)
    path = tmp_path / "export.zip"
    path.write_bytes(
      zipped(annotations_xml=golden("cvat_single.xml"), a_jpg=b"0" * 20_000)
    )
    assert queries.said(formats.read_file(path)) == queries.SINGLE

  def test_refuses_a_file_that_is_too_large(self, tmp_path, monkeypatch):
    (tmp_path / "x.jsonl").write_bytes(LINES)
    monkeypatch.setattr(archive, "MAX_BYTES", len(LINES))
    assert len(formats.read_file(tmp_path / "x.jsonl").answers) == 1
    largest = len(LINES) - 1
    monkeypatch.setattr(archive, "MAX_BYTES", largest)
    message = f"<= {largest} bytes, got {len(LINES)}"
    with pytest.raises(ValueError, match=message):
      formats.read_file(tmp_path / "x.jsonl")

  def test_names_mean_the_images_that_are_given(self, tmp_path):
    path = tmp_path / "task.xml"
    path.write_bytes(golden("cvat_task.xml"))
    items = queries.query(ids=("cats/1.jpg",)).items
    found = formats.read_file(path, items=items)
    assert [a.id for a in found.answers] == ["cats/1.jpg", "line\nbreak.jpg"]

  def test_reads_from_a_store(self):
    with fake_store.installed():
      (path,) = formats.FORMATS["jsonl"].write(
        queries.query(), "gs://bucket/folder"
      )
      path.write_bytes(LINES)
      found = formats.read_file(path)
    assert found.answers == (Answer("a", ("cat",), source=path.name),)

  def test_a_missing_file_is_an_error_of_the_system(self, tmp_path):
    with pytest.raises(FileNotFoundError):
      formats.read_file(tmp_path / "none.csv")
