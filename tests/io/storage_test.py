"""Tests of decern_jax/io/storage.py: on a disk, and what differs in a store."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

from etils import epath
from fsspec import config
from fsspec.registry import known_implementations
import pytest

from decern_jax.io import storage
from tests import tiny
from tests.io import fake_store, gcs_emulator
from tests.table import each


@pytest.fixture(
  params=["disk", "store", pytest.param("emulator", marks=pytest.mark.slow)]
)
def root(request, tmp_path):
  """A folder that is on a disk, in a fake store, or asked for by gcsfs."""
  if request.param == "disk":
    yield epath.Path(tmp_path)
  elif request.param == "store":
    with fake_store.installed():
      yield epath.Path("gs://bucket/folder")
  else:
    with gcs_emulator.running():
      yield epath.Path("gs://bucket/folder")


@pytest.fixture
def no_gcsfs(monkeypatch):
  """As where gcsfs is not installed."""
  missing = {"class": "no_such_package.File", "err": "Please install gcsfs"}
  with fake_store.fresh_connection():
    monkeypatch.delitem(fake_store.REGISTRY, "gcs", raising=False)
    monkeypatch.setitem(known_implementations, "gcs", missing)
    yield


class TestIsRemote:
  @each("path", ["gs://bucket/a", "s3://a", epath.Path("gs://bucket/a")])
  def test_holds_of_what_has_a_scheme(self, path):
    assert storage.is_remote(path)

  @each(
    "path", ["a", "/gs://a", "./gs:/a", pathlib.Path("gs://a"), "a b://c", ""]
  )
  def test_holds_of_no_local_path(self, path):
    assert not storage.is_remote(path)


class TestAsPath:
  @each("path", ["a/b", pathlib.Path("a/b")])
  def test_keeps_local_paths(self, path):
    assert storage.as_path(path) == epath.Path("a/b")

  def test_keeps_the_scheme_of_a_store(self, store):
    path = storage.as_path("gs://bucket/a") / "b"
    assert str(path) == "gs://bucket/a/b"

  @each("path", ["s3://bucket/a", "http://host/a"])
  def test_refuses_other_stores(self, path):
    message = rf"local path, or one on gs://, got '{path}'"
    with pytest.raises(ValueError, match=message):
      storage.as_path(path)

  def test_says_how_to_install_what_is_missing(self, no_gcsfs):
    message = r"'gs://bucket/a' needs.* gcsfs.* pip install 'decern_jax\[gcs\]'"
    with pytest.raises(ValueError, match=message):
      storage.as_path("gs://bucket/a")

  def test_needs_nothing_for_local_paths(self, no_gcsfs):
    assert storage.as_path("a") == epath.Path("a")


class TestCheckReachable:
  @each("path", ["gs://bucket/none", "/no/such/folder"])
  def test_accepts_what_is_not_there_yet(self, store, path):
    storage.check_reachable(path)

  @each(
    "error", [RuntimeError("401: anonymous"), OSError("Forbidden: anonymous")]
  )
  def test_refuses_a_store_that_refuses(self, store, error):
    store.error = error
    message = r"access to gs://bucket/a, got .*anonymous"
    with pytest.raises(ValueError, match=message):
      storage.check_reachable("gs://bucket/a")


class TestConnect:
  def test_keeps_no_listing(self, store):
    options = storage.connect().storage_options
    assert options["use_listings_cache"] is False

  def test_is_what_epath_asks(self, store):
    connected = storage.connect()
    epath.Path("gs://bucket/a").exists()
    assert store._cache == {connected._fs_token: connected}

  def test_lets_the_user_choose(self, store, monkeypatch):
    chosen = {"use_listings_cache": True, "token": "anon"}
    monkeypatch.setitem(config.conf, "gcs", chosen)
    options = storage.connect().storage_options
    assert options == {**chosen, "finalize_on_close": True}


class TestAsOsErrors:
  def test_names_what_was_raised(self):
    with (
      pytest.raises(OSError, match=r"^gs://a: KeyError: 'b'$"),
      storage.as_os_errors("gs://a"),
    ):
      raise KeyError("b")

  def test_keeps_a_file_that_is_not_there(self):
    with (
      pytest.raises(FileNotFoundError, match="a"),
      storage.as_os_errors("gs://a"),
    ):
      raise FileNotFoundError("a")


class TestCheckWritable:
  def test_leaves_nothing_but_the_folder(self, root):
    storage.check_writable(root / "a" / "b")
    assert not storage.is_remote(root) or not (root / "a").exists()
    assert storage.is_remote(root) or storage.scan(root / "a" / "b") == []

  def test_several_hosts_may_check_at_once(self, store, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)
    storage.check_writable("gs://bucket/folder")
    storage.check_writable("gs://bucket/folder")
    written = [path for kind, path in store.requests if kind == "put"]
    assert len(set(written)) == 2

  def test_refuses_a_bucket_that_is_not_there(self, store):
    with pytest.raises(FileNotFoundError, match="other"):
      storage.check_writable("gs://other/folder")

  def test_refuses_a_folder_below_a_file(self, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
      storage.check_writable(tmp_path / "file" / "folder")


class TestReadBytes:
  def test_returns_what_was_written(self, root):
    storage.write_atomically(root / "file", b"\0content")
    assert storage.read_bytes(root / "file") == b"\0content"

  def test_takes_one_request(self, store):
    storage.write_atomically("gs://bucket/a", b"content")
    del store.requests[:]
    storage.read_bytes("gs://bucket/a")
    assert store.requests == [("get", "bucket/a")]

  def test_refuses_a_file_that_is_not_there(self, root):
    with pytest.raises(FileNotFoundError, match="none"):
      storage.read_bytes(root / "none")

  def test_raises_one_kind_of_error(self, store):
    store.error = RuntimeError("the store is down")
    with pytest.raises(OSError, match="gs://bucket/a: .*the store is down"):
      storage.read_bytes("gs://bucket/a")


class TestReadIfExists:
  def test_returns_the_content_or_none(self, root):
    storage.write_atomically(root / "file", b"")
    assert storage.read_if_exists(root / "file") == b""
    assert storage.read_if_exists(root / "none") is None

  def test_returns_none_below_a_file(self, tmp_path):
    (tmp_path / "file").write_text("")
    assert storage.read_if_exists(tmp_path / "file" / "none") is None

  def test_an_error_is_no_missing_file(self, store):
    store.error = OSError("Forbidden")
    with pytest.raises(OSError, match="Forbidden"):
      storage.read_if_exists("gs://bucket/a")


class TestWriteAtomically:
  def test_replaces_the_file_and_leaves_no_other(self, root):
    storage.make_folder(root)
    for content in (b"first and longer", b"", b"second"):
      storage.write_atomically(root / "file.json", content)
      assert storage.read_bytes(root / "file.json") == content
    assert [entry.name for entry in storage.scan(root)] == ["file.json"]

  def test_a_failure_leaves_the_old_file(self, tmp_path, monkeypatch):
    storage.write_atomically(tmp_path / "file", b"old")

    def fail(*unused):
      raise OSError("killed before the rename")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="killed"):
      storage.write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]

  def test_is_one_upload_to_a_store(self, store):
    storage.write_atomically("gs://bucket/a", b"content")
    assert store.requests == [("put", "bucket/a")]


class TestAppend:
  def test_adds_to_the_end(self, root):
    for content in (b"a\n", b"", b"bc\n"):
      storage.append(root / "file", content)
    assert storage.read_bytes(root / "file") == b"a\nbc\n"

  def test_is_on_the_disk_when_it_returns(self, tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(
      os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size)
    )
    storage.append(tmp_path / "file", b"abc")
    assert synced == [3]

  def test_never_writes_what_it_could_not_read(self, store, monkeypatch):
    storage.append("gs://bucket/a", b"a\n")

    def fail(*unused, **ignored):
      raise OSError("the store is down")

    monkeypatch.setattr(store, "cat_file", fail)
    with pytest.raises(OSError, match="the store is down"):
      storage.append("gs://bucket/a", b"b\n")
    assert store.objects["bucket/a"] == b"a\n"


class TestScan:
  @pytest.fixture
  def listed(self, root):
    for name in (
      "b.png",
      "a/inner.png",
      "a/deeper/c.png",
      ".hidden",
      "c d.png",
    ):
      storage.make_folder((root / name).parent)
      storage.write_atomically(root / name, name.encode())
    return storage.scan(root)

  def test_returns_what_is_in_the_folder_alone(self, listed):
    assert [(each.name, each.is_folder) for each in listed] == [
      (".hidden", False),
      ("a", True),
      ("b.png", False),
      ("c d.png", False),
    ]

  def test_has_the_size_of_files(self, listed):
    sizes = {each.name: each.size for each in listed if not each.is_folder}
    assert sizes == {".hidden": 7, "b.png": 5, "c d.png": 7}

  def test_time_changes_with_the_content(self, root, listed):
    time.sleep(0.01)
    storage.write_atomically(root / "b.png", b"other")
    changed = [
      old.name
      for old, new in zip(listed, storage.scan(root), strict=True)
      if not old.is_folder and old.mtime_ns != new.mtime_ns
    ]
    assert changed == ["b.png"]
    assert all(each.mtime_ns > 0 for each in listed if not each.is_folder)

  def test_refuses_what_is_no_folder(self, root, listed):
    with pytest.raises(NotADirectoryError, match=r"b\.png"):
      storage.scan(root / "b.png")
    with pytest.raises(FileNotFoundError, match="none"):
      storage.scan(root / "none")

  def test_sees_what_others_have_written_since(self, root, listed):
    other = root / "a" / "new.png"
    storage.write_atomically(other, b"")
    assert [each.name for each in storage.scan(root / "a")] == [
      "deeper",
      "inner.png",
      "new.png",
    ]
    assert other.exists()

  def test_follows_links(self, tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "file").write_bytes(b"abc")
    for name in ("target", "file", "nothing"):
      (tmp_path / f"{name}.link").symlink_to(tmp_path / name)
    found = {each.name: each for each in storage.scan(tmp_path)}
    assert found["target.link"].is_folder
    assert found["file.link"].size == 3
    assert found["nothing.link"][1:] == (False, 0, 0)


class TestLocalInput:
  def test_lends_the_content(self, root):
    storage.write_atomically(root / "file.bin", b"content")
    with storage.local_input(root / "file.bin") as path:
      assert pathlib.Path(path).read_bytes() == b"content"
      assert pathlib.Path(path).name == "file.bin"
    assert pathlib.Path(path).exists() != storage.is_remote(root)

  def test_refuses_a_file_that_is_not_there(self, store):
    with (
      pytest.raises(FileNotFoundError, match="none"),
      storage.local_input("gs://bucket/none"),
    ):
      pytest.fail("was lent a file that is not there")


class TestLocalOutput:
  def test_has_all_that_was_written_at_the_end(self, root):
    storage.make_folder(root)
    with storage.local_output(root / "file") as (path, publish):
      for content in ("a", "b", "c"):
        with open(path, "a") as file:
          file.write(content)
        publish()
    assert storage.read_bytes(root / "file") == b"abc"

  def test_publishes_at_once_then_not_too_often(self, store):
    with storage.local_output("gs://bucket/file") as (path, publish):
      pathlib.Path(path).write_bytes(b"first")
      publish()
      assert store.objects["bucket/file"] == b"first"
      pathlib.Path(path).write_bytes(b"second")
      publish()
      assert store.objects["bucket/file"] == b"first"
    assert store.objects["bucket/file"] == b"second"

  def test_publishes_again_after_a_while(self, store, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with storage.local_output("gs://bucket/file") as (path, publish):
      for content in (b"first", b"second"):
        pathlib.Path(path).write_bytes(content)
        publish()
        assert store.objects["bucket/file"] == content
        now[0] += storage.SECONDS_BETWEEN_WRITES


HOLDER = """
import sys, time
from decern_jax.io import storage
with storage.hold_lock(sys.argv[1], refusal="No"):
  print("held", flush=True)
  time.sleep(60)
"""


@pytest.fixture
def path(tmp_path):
  return tmp_path / "page.lock"


def held_by(process_id):
  host = re.escape(socket.gethostname())
  return (
    rf"^Expected one: .*page\.lock is held by process {process_id} on {host},"
    r" since 20\d\d-\d\d-.*\+00:00\.$"
  )


def hold(path):
  return storage.hold_lock(path, refusal="Expected one")


class TestHoldLock:
  def test_second_is_refused_and_the_first_is_named(self, path):
    with hold(path):
      for _ in range(2):
        with pytest.raises(ValueError, match=held_by(os.getpid())), hold(path):
          pytest.fail("was held twice")

  def test_is_free_afterwards_and_names_nobody(self, path):
    for _ in range(2):
      with hold(path):
        pass
      assert os.listdir(path.parent) == ["page.lock"]
      assert storage.lock_holder(path) == "another process"

  def test_is_free_after_an_error(self, path):
    with pytest.raises(KeyError), hold(path):
      raise KeyError
    with hold(path):
      pass

  def test_what_a_kill_left_is_replaced(self, path):
    with hold(path):
      left = {file: file.read_bytes() for file in path.parent.iterdir()}
    assert len(left) == 2
    for file, content in left.items():
      file.write_bytes(content.replace(str(os.getpid()).encode(), b"123456"))
    assert storage.lock_holder(path).startswith("process 123456 on")
    with hold(path):
      assert storage.lock_holder(path).startswith(f"process {os.getpid()} on")

  @each("content", [b"", b"{", b"[1]", b'{"pid": 1}', b"\xff"])
  def test_second_is_refused_whatever_the_holder_wrote(self, tmp_path, content):
    path = tmp_path / "lock"
    with hold(path):
      (tmp_path / "lock.holder.lock").write_bytes(content)
      with (
        pytest.raises(ValueError, match="held by another process"),
        hold(path),
      ):
        pytest.fail("was held twice")

  @pytest.mark.slow
  def test_is_free_when_its_holder_was_killed(self, path):
    with subprocess.Popen(
      [sys.executable, "-c", HOLDER, path],
      cwd=tiny.ROOT,
      stdout=subprocess.PIPE,
      text=True,
    ) as process:
      assert process.stdout
      assert process.stdout.readline() == "held\n"
      with pytest.raises(ValueError, match=held_by(process.pid)), hold(path):
        pytest.fail("was held twice")
      process.send_signal(signal.SIGKILL)
      process.wait()
    with hold(path):
      assert storage.lock_holder(path).startswith(f"process {os.getpid()} on")
