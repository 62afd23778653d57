"""Tests of decern_jax/io/object_store.py."""

import pathlib

from etils import epath
from fsspec import config
from fsspec.registry import known_implementations
import pytest

from decern_jax.io import object_store
from tests.io import fake_store
from tests.table import each


@pytest.fixture
def store():
  with fake_store.installed() as store:
    yield store


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
    assert object_store.is_remote(path)

  @each(
    "path", ["a", "/gs://a", "./gs:/a", pathlib.Path("gs://a"), "a b://c", ""]
  )
  def test_holds_of_no_local_path(self, path):
    assert not object_store.is_remote(path)


class TestAsPath:
  @each("path", ["a/b", pathlib.Path("a/b")])
  def test_keeps_local_paths(self, path):
    assert object_store.as_path(path) == epath.Path("a/b")

  def test_keeps_the_scheme_of_a_store(self, store):
    path = object_store.as_path("gs://bucket/a") / "b"
    assert str(path) == "gs://bucket/a/b"

  @each("path", ["s3://bucket/a", "http://host/a"])
  def test_refuses_other_stores(self, path):
    message = rf"local path, or one on gs://, got '{path}'"
    with pytest.raises(ValueError, match=message):
      object_store.as_path(path)

  def test_says_how_to_install_what_is_missing(self, no_gcsfs):
    message = r"'gs://bucket/a' needs.*pip install gcsfs.*decern_jax\[gcs\]"
    with pytest.raises(ValueError, match=message):
      object_store.as_path("gs://bucket/a")

  def test_needs_nothing_for_local_paths(self, no_gcsfs):
    assert object_store.as_path("a") == epath.Path("a")


class TestCheckReachable:
  @each("path", ["gs://bucket/none", "/no/such/folder"])
  def test_accepts_what_is_not_there_yet(self, store, path):
    object_store.check_reachable(path)

  @each(
    "error", [RuntimeError("401: anonymous"), OSError("Forbidden: anonymous")]
  )
  def test_refuses_a_store_that_refuses(self, store, error):
    store.error = error
    message = r"access to gs://bucket/a, got .*anonymous"
    with pytest.raises(ValueError, match=message):
      object_store.check_reachable("gs://bucket/a")


class TestConnect:
  def test_keeps_no_listing(self, store):
    options = object_store.connect().storage_options
    assert options["use_listings_cache"] is False

  def test_is_what_epath_asks(self, store):
    connected = object_store.connect()
    epath.Path("gs://bucket/a").exists()
    assert store._cache == {connected._fs_token: connected}

  def test_lets_the_user_choose(self, store, monkeypatch):
    chosen = {"use_listings_cache": True, "token": "anon"}
    monkeypatch.setitem(config.conf, "gcs", chosen)
    options = object_store.connect().storage_options
    assert options == {**chosen, "finalize_on_close": True}


class TestOneKindOfError:
  def test_names_what_was_raised(self):
    with (
      pytest.raises(OSError, match=r"^gs://a: KeyError: 'b'$"),
      object_store.one_kind_of_error("gs://a"),
    ):
      raise KeyError("b")

  def test_keeps_a_file_that_is_not_there(self):
    with (
      pytest.raises(FileNotFoundError, match="a"),
      object_store.one_kind_of_error("gs://a"),
    ):
      raise FileNotFoundError("a")
