import logging
import runpy
import types

from fsspec.registry import _registry, known_implementations
import pytest

from tests.launch import scripts
from tests.table import each

stage = types.SimpleNamespace(
  **runpy.run_path(str(scripts.LAUNCH / "stage.py"))
)


def run(source, target) -> None:
  stage.main(["stage.py", str(source), str(target)])


def files_of(folder) -> dict[str, bytes]:
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in folder.rglob("*")
    if path.is_file()
  }


@pytest.fixture
def source(tmp_path):
  folder = tmp_path / "source"
  (folder / "a/b").mkdir(parents=True)
  (folder / "a/b/one").write_bytes(b"1")
  (folder / "two").write_bytes(b"2")
  return folder


class TestStage:
  @each("slash", ["", "/"])
  def test_copies_what_is_below_the_folder(
    self, source, tmp_path, slash, caplog
  ):
    caplog.set_level(logging.INFO)
    target = tmp_path / "local/target"
    run(f"file://{source}{slash}", target)
    assert f"copied 2 files to {target}" in caplog.text
    assert files_of(target) == files_of(source)

  def test_does_nothing_the_second_time(self, source, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    target = tmp_path / "target"
    run(f"file://{source}", target)
    (source / "two").write_bytes(b"changed")
    run(f"file://{source}", target)
    assert f"using what is in {target}" in caplog.text
    assert (target / "two").read_bytes() == b"2"

  def test_begins_an_interrupted_copy_anew(self, source, tmp_path):
    partial = tmp_path / "target.partial"
    partial.mkdir()
    (partial / "torn").write_bytes(b"tor")
    run(f"file://{source}", tmp_path / "target")
    assert files_of(tmp_path / "target") == files_of(source)
    assert not partial.exists()

  def test_rejects_an_empty_source(self, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match=f"files below file://{tmp_path}/empt"):
      run(f"file://{tmp_path}/empty", tmp_path / "target")
    assert not (tmp_path / "target").exists()

  def test_says_how_it_is_called(self):
    with pytest.raises(SystemExit, match="usage: stage.py SOURCE TARGET"):
      stage.main(["stage.py", "a"])

  def test_says_what_is_missing_for_a_bucket(self, tmp_path, monkeypatch):
    missing = {"class": "no_such_package.File", "err": "Please install gcsfs"}
    for name in ("gs", "gcs"):
      monkeypatch.delitem(_registry, name, raising=False)
      monkeypatch.setitem(known_implementations, name, missing)
    with pytest.raises(SystemExit, match="error: Please install gcsfs"):
      run("gs://bucket/tfds", tmp_path / "target")
