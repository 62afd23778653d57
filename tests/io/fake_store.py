"""A store of objects in memory, in the place of Google Cloud Storage."""

import contextlib
import datetime
import io
import os
import pathlib
from typing import Any, ClassVar

from etils.epath import backend
import fsspec
import fsspec.config
from fsspec.registry import _registry as REGISTRY
import pytest

from decern_jax.io import storage

ROOT = "gs://bucket"

_EPOCH = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class FakeStore(fsspec.AbstractFileSystem):
  """Does what gcsfs does, and refuses what a bucket cannot do.

  Attributes:
    objects: Content by bucket and name.
    times: When each object was written, in seconds.
    requests: What was asked for, as ("put", path).
    error: Raised by every request, if set.
  """

  protocol = ("gs", "gcs")
  objects: ClassVar[dict[str, bytes]] = {}
  times: ClassVar[dict[str, int]] = {}
  requests: ClassVar[list[tuple[str, Any]]] = []
  error: ClassVar[Exception | None] = None

  def info(self, path, **unused):
    path = self._ask("info", path)
    if path in self.objects:
      return {
        "name": path,
        "size": len(self.objects[path]),
        "type": "file",
        "ctime": _EPOCH + datetime.timedelta(seconds=self.times[path]),
      }
    if any(name.startswith(f"{path}/") for name in self.objects):
      return {"name": path, "size": 0, "type": "directory"}
    raise FileNotFoundError(path)

  def exists(self, path, **unused):
    try:
      self.info(path)
    except FileNotFoundError:
      return False
    return True

  def ls(self, path, detail=True, **unused):
    path = self._ask("list", path)
    if path in self.objects:
      return [self.info(path)]
    below = {
      f"{path}/{name.removeprefix(f'{path}/').split('/')[0]}"
      for name in self.objects
      if name.startswith(f"{path}/")
    }
    if not below:
      raise FileNotFoundError(path)
    return [self.info(name) if detail else name for name in sorted(below)]

  def rm_file(self, path):
    path = self._ask("delete", path)
    if path in self.objects:
      del self.objects[path]

  def mv(self, path1, path2, **unused):
    raise NotImplementedError("a store cannot rename")

  def makedirs(self, path, exist_ok=False):
    raise NotImplementedError("gcsfs makes a bucket that is not there")

  def mkdir(self, path, create_parents=True, **unused):
    self.makedirs(path)

  def _open(self, path, mode="rb", **unused):
    if mode == "rb":
      path = self._ask("get", path)
      if path not in self.objects:
        raise FileNotFoundError(path)
      return io.BytesIO(self.objects[path])
    if mode != "wb":
      raise NotImplementedError(f"a store cannot open for {mode}")
    return _Upload(self, self._strip_protocol(path))

  def put_object(self, path, content):
    """Stores an object, which is there from now on."""
    self._ask("put", path)
    if not path.startswith("bucket/"):
      raise FileNotFoundError(path)
    self.objects[path] = content
    self.times[path] = len(self.requests)

  def _ask(self, kind, path):
    path = self._strip_protocol(path)
    self.requests.append((kind, path))
    if self.error is not None:
      raise self.error
    return path


class _Upload(io.BytesIO):
  """A file whose object appears when it is closed."""

  def __init__(self, store, path):
    super().__init__()
    self._store, self._path = store, path

  def close(self):
    if not self.closed:
      self._store.put_object(self._path, self.getvalue())
    super().close()


@contextlib.contextmanager
def installed():
  """Puts a new and empty store behind gs://bucket; yields its class."""
  with pytest.MonkeyPatch.context() as patch, fresh_connection():
    for name, empty in (("objects", {}), ("times", {}), ("requests", [])):
      patch.setattr(FakeStore, name, empty)
    patch.setattr(FakeStore, "error", None)
    patch.setitem(REGISTRY, "gcs", FakeStore)
    yield FakeStore


@contextlib.contextmanager
def fresh_connection():
  """Forgets file systems before and after, and what was set for them."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("EPATH_USE_TF", "false")
    patch.setitem(fsspec.config.conf, "gcs", {})
    _forget()
    yield
    _forget()


def _forget():
  storage.connect.cache_clear()
  type(backend.fsspec_backend)._get_filesystem.cache_clear()
  FakeStore.clear_instance_cache()


def upload(folder: pathlib.Path, target: str) -> None:
  """Copies a local folder to a store."""
  for parent, _, names in os.walk(folder):
    for name in names:
      path = pathlib.Path(parent) / name
      place = f"{target}/{path.relative_to(folder).as_posix()}"
      storage.write_atomically(place, path.read_bytes())
