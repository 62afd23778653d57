"""An emulator of Google Cloud Storage in this process, on loopback."""

import contextlib
import logging
import os
import socket

import fsspec
import fsspec.config
import pytest

from tests.io.fake_store import fresh_connection

BUCKET = "bucket"


class Emulator:
  """A server that runs until the end of the test.

  Attributes:
    environment: Variables with which processes use it as gs://.
    on_write: Called before an object is written or replaced.
  """

  def __init__(self, port: int):
    url = f"http://127.0.0.1:{port}"
    self.environment = {
      "STORAGE_EMULATOR_HOST": url,  # gcsfs and google-cloud-storage
      "TENSORSTORE_GCS_HTTP_URL": url,
      "FSSPEC_GCS": '{"token": "anon"}',
      # Without it gcsfs asks by gRPC, which the emulator does not speak.
      "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
      "GOOGLE_CLOUD_PROJECT": "test",
      "NO_GCE_CHECK": "true",
      "GOOGLE_APPLICATION_CREDENTIALS": "",
      "EPATH_USE_TF": "false",
    }
    self.on_write = lambda: None


@contextlib.contextmanager
def running():
  """Starts an emulator, which this process uses as gs://, too.

  Yields:
    The emulator.
  """
  pytest.importorskip("gcp_storage_emulator")
  from gcp_storage_emulator import (  # pyright: ignore[reportMissingImports]
    server,
  )

  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
  emulator = Emulator(port)

  def noticed(handle):
    def handle_and_tell(handler):
      emulator.on_write()
      handle(handler)

    return handle_and_tell

  # It reports every object that is not there as an error.
  logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
  with pytest.MonkeyPatch.context() as patch, fresh_connection():
    for name in ("do_POST", "do_PUT"):
      handle = getattr(server.RequestHandler, name)
      patch.setattr(server.RequestHandler, name, noticed(handle))
    # A client that is killed does not wait for its answer.
    patch.setattr(
      server.server.HTTPServer, "handle_error", lambda *unused: None
    )
    for name, value in emulator.environment.items():
      patch.setenv(name, value)
    os.environ.pop("GOOGLE_APPLICATION_CREDENTIALS")
    patch.setitem(fsspec.config.conf, "gcs", {"token": "anon"})
    pytest.importorskip("gcsfs")
    with server.create_server(
      "127.0.0.1", port, in_memory=True, default_bucket=BUCKET
    ):
      yield emulator
