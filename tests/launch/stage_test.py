import subprocess
import sys

import pytest

from tests.launch import scripts
from tests.table import each

pytest.importorskip("fsspec")


def stage(source, target) -> subprocess.CompletedProcess[str]:
  return subprocess.run(
    [sys.executable, str(scripts.LAUNCH / "stage.py"), source, target],
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )


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
  def test_copies_what_is_below_the_folder(self, source, tmp_path, slash):
    target = tmp_path / "local/target"
    done = stage(f"file://{source}{slash}", target)
    assert done.returncode == 0, done.stderr
    assert "copied 2 files" in done.stderr
    assert files_of(target) == files_of(source)

  def test_does_nothing_the_second_time(self, source, tmp_path):
    target = tmp_path / "target"
    stage(f"file://{source}", target)
    (source / "two").write_bytes(b"changed")
    done = stage(f"file://{source}", target)
    assert "using what is in" in done.stderr
    assert (target / "two").read_bytes() == b"2"

  def test_begins_an_interrupted_copy_anew(self, source, tmp_path):
    partial = tmp_path / "target.partial"
    partial.mkdir()
    (partial / "torn").write_bytes(b"tor")
    stage(f"file://{source}", tmp_path / "target")
    assert files_of(tmp_path / "target") == files_of(source)
    assert not partial.exists()

  def test_rejects_an_empty_source(self, tmp_path):
    (tmp_path / "empty").mkdir()
    done = stage(f"file://{tmp_path}/empty", tmp_path / "target")
    assert done.returncode == 1
    assert f"Expected files below file://{tmp_path}/empty" in done.stderr
    assert not (tmp_path / "target").exists()

  def test_says_what_is_missing_for_a_bucket(self, tmp_path):
    try:
      import gcsfs  # noqa: F401
    except ImportError:
      done = stage("gs://bucket/tfds", tmp_path / "target")
      assert done.returncode == 1
      assert "error: Please install gcsfs" in done.stderr
    else:
      pytest.skip("gcsfs is installed")
