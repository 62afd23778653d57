"""An HTTP server on loopback, on which the servers of the tests are built."""

import http.server
import threading
from typing import Self


class Listener:
  """Passes every request to `handle`; a context manager.

  Attributes:
    url: Its address.
  """

  def __init__(self, protocol: str = "HTTP/1.0"):
    listener = self

    class Handler(http.server.BaseHTTPRequestHandler):
      protocol_version = protocol

      def log_message(self, *unused):
        pass

      def handle_any(self):
        listener.handle(self)

      do_GET = do_POST = do_PATCH = handle_any  # noqa: N815

    self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
    self._thread = threading.Thread(
      target=self._server.serve_forever, args=(0.01,)
    )

  def __enter__(self) -> Self:
    self._thread.start()
    return self

  def __exit__(self, *error: object) -> None:
    self._server.shutdown()
    self._thread.join()
    self._server.server_close()

  def handle(self, handler: http.server.BaseHTTPRequestHandler) -> None:
    """Answers a request."""
    raise NotImplementedError
