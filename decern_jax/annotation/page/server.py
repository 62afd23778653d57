"""The server of the labeling page, at a secret address of this machine.

The address is kept with the run, readable only for its owner, so that an open
page keeps working when the server is started again.
"""

from collections.abc import Callable
import contextlib
import dataclasses
import hmac
from http import HTTPStatus
from http import server as http_server
import importlib.resources
import json
import operator
import os
import re
import secrets
import stat
import sys
from typing import Any

from absl import logging
from etils import epath

from decern_jax.annotation.page import picture
from decern_jax.annotation.page.current_query import CurrentQuery, StaleError

HOST = "127.0.0.1"
ADDRESS_FILE = "page_address.json"

_NUM_SECRET_BYTES = 24
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")

# Files of the page, in the folder of this module.
_MEDIA_TYPES = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
}
_FIRST_FILE = "page.html"
_PACKAGE = "decern_jax.annotation.page"

_IMAGE = re.compile(r"image/([0-9a-f]{16})/([0-9]{1,9})")
_LATEST = re.compile(r"latest/([0-9a-f]{16})")

_MAX_BODY = 2**20
# A browser opens connections in advance, which it may never use.
_SECONDS_TO_SEND = 30

# The page loads nothing from other hosts, and no other site may embed or read
# it.
_HEADERS = {
  "Cache-Control": "no-store",
  "Content-Security-Policy": (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src"
    " 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
  ),
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
}


@dataclasses.dataclass(frozen=True)
class PageAddress:
  """The address of the page.

  Attributes:
    port: Port of this machine; 0 for any free port.
    token: The secret that every request must contain.
  """

  port: int
  token: str

  @property
  def url(self) -> str:
    """The URL that a browser opens."""
    return f"http://{HOST}:{self.port}/{self.token}/"


def load_address(path: epath.PathLike) -> PageAddress:
  """Reads the address in a file, or makes a new one at any free port.

  A file that other users can read or write is not trusted.

  Args:
    path: A file that `save_address` wrote; it need not exist.
  """
  errors = (OSError, ValueError, TypeError, KeyError, OverflowError)
  with contextlib.suppress(*errors, RecursionError):
    kept = json.loads(_read_private(path))
    port, token = int(kept["port"]), kept["token"]
    if 0 < port < 2**16 and _TOKEN.fullmatch(token):
      return PageAddress(port, token)
  return PageAddress(0, secrets.token_urlsafe(_NUM_SECRET_BYTES))


def save_address(path: epath.PathLike, address: PageAddress) -> None:
  """Writes an address for the next start; failures are ignored.

  Args:
    path: The file; only its owner can read it.
    address: The address.
  """
  with contextlib.suppress(OSError):
    # Another user may have the old file open, or be able to read it.
    epath.Path(path).unlink(missing_ok=True)
    only_if_new = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with open(os.open(path, only_if_new, 0o600), "w", encoding="ascii") as file:
      json.dump(dataclasses.asdict(address), file)


def _read_private(path: epath.PathLike) -> bytes:
  """Reads a file that only this user can read and write."""
  with open(path, "rb") as file:
    # Windows has other permissions: there the user's folders are private.
    if hasattr(os, "getuid"):
      status = os.fstat(file.fileno())
      is_open_to_others = status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
      if status.st_uid != os.getuid() or is_open_to_others:
        raise PermissionError(f"{path} is not private.")
    return file.read()


class Server(http_server.ThreadingHTTPServer):
  """Serves the page of a query at an address of this machine.

  Attributes:
    address: The address, with the port in use.
    current_query: The query and its answers.
    files: The files of the page, by name.
  """

  # Open connections do not keep the command from ending.
  daemon_threads = True
  # On Windows, the option lets several programs share a port.
  allow_reuse_address = os.name == "posix"

  def __init__(self, address: PageAddress, current_query: CurrentQuery):
    """Binds the port; `serve_forever` serves.

    Args:
      address: The address; its port may be 0.
      current_query: The query and its answers.

    Raises:
      OSError: If the port is taken or not allowed.
    """
    super().__init__((HOST, address.port), _Handler)
    self.address = dataclasses.replace(address, port=self.server_address[1])
    self.current_query = current_query
    self.files = _page_files()

  def handle_error(self, request: Any, client_address: Any) -> None:
    """Logs an error; a browser may close its connection at any time."""
    if not isinstance(sys.exception(), ConnectionError):
      logging.exception("A request of the labeling page failed.")


@dataclasses.dataclass(frozen=True)
class _Reply:
  status: HTTPStatus
  media_type: str
  content: bytes


def _text(status: HTTPStatus, message: str) -> _Reply:
  content = message.encode("utf-8", "backslashreplace")
  return _Reply(status, "text/plain; charset=utf-8", content)


def _json(value: Any) -> _Reply:
  return _Reply(
    HTTPStatus.OK, "application/json", json.dumps(value).encode("ascii")
  )


def _page_files() -> dict[str, _Reply]:
  """Returns the files of the page, by the name that requests use."""
  files = {}
  for file in importlib.resources.files(_PACKAGE).iterdir():
    media_type = _MEDIA_TYPES.get(os.path.splitext(file.name)[1])
    if media_type:
      name = "" if file.name == _FIRST_FILE else file.name
      files[name] = _Reply(HTTPStatus.OK, media_type, file.read_bytes())
  return files


_NOT_FOUND = _text(HTTPStatus.NOT_FOUND, "There is nothing here.")
_FORBIDDEN = _text(
  HTTPStatus.FORBIDDEN,
  "This is not the address of the page: open the one that the command printed.",
)
_STALE = _text(HTTPStatus.CONFLICT, "A newer query or answer replaced this.")
_TOO_LARGE = _text(
  HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
  f"Expected a Content-Length up to {_MAX_BODY}.",
)


class _Handler(http_server.BaseHTTPRequestHandler):
  """Answers one request."""

  timeout = _SECONDS_TO_SEND
  server: Server

  def do_GET(self) -> None:  # noqa: N802 (http.server looks for this name)
    """Sends a file of the page, the query, or an image of it."""
    self._serve(self._get)

  def do_POST(self) -> None:  # noqa: N802
    """Saves an answer."""
    length = self.headers.get("Content-Length", "")
    # `int` refuses thousands of digits with an error of its own.
    is_number = length.isdecimal() and len(length) < 10
    if not (is_number and int(length) <= _MAX_BODY):
      self._send(_TOO_LARGE)
      return
    # If the body is not read, the sender may not get the reply.
    body = self.rfile.read(int(length))
    self._serve(lambda name: self._post(name, body))

  def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
    """Logs nothing: every request contains the secret."""

  def _serve(self, reply_to: Callable[[str], _Reply]) -> None:
    """Replies to requests of the page, and refuses all others."""
    start, token, name = (self.path.split("/", 2) + ["", ""])[:3]
    if start or not self._is_allowed(token):
      self._send(_FORBIDDEN)
      return
    try:
      reply = reply_to(name)
    except StaleError:
      reply = _STALE
    except ValueError as error:
      reply = _text(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
    except OSError as error:
      logging.warning("%s", error)
      reply = _text(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
    self._send(reply)

  def _is_allowed(self, token: str) -> bool:
    """Returns whether a request has the secret, and comes from the page."""
    address = self.server.address
    hosts = [f"{name}:{address.port}" for name in (HOST, "localhost")]
    # DNS rebinding: another site resolves its name to this machine, but its
    # requests still carry that name as their host.
    host = self.headers.get_all("Host", [])
    if len(host) != 1 or host[0] not in hosts:
      return False
    origin = self.headers.get("Origin")
    if self.command == "POST" and origin != f"http://{host[0]}":
      return False
    return hmac.compare_digest(token.encode(), address.token.encode())

  def _get(self, name: str) -> _Reply:
    server = self.server
    if name in server.files:
      return server.files[name]
    if name == "query":
      return _json(server.current_query.view())
    if match := _LATEST.fullmatch(name):
      return _json(server.current_query.is_latest(match[1]))
    if match := _IMAGE.fullmatch(name):
      path = server.current_query.image_path(match[1], int(match[2]))
      return _Reply(HTTPStatus.OK, *picture.render(path))
    return _NOT_FOUND

  def _post(self, name: str, body: bytes) -> _Reply:
    if name != "answer":
      return _NOT_FOUND
    self.server.current_query.save(**_parse_answer(body))
    return _json(True)

  def _send(self, reply: _Reply) -> None:
    self.send_response(reply.status)
    self.send_header("Content-Type", reply.media_type)
    self.send_header("Content-Length", str(len(reply.content)))
    for name, value in _HEADERS.items():
      self.send_header(name, value)
    self.end_headers()
    self.wfile.write(reply.content)


def _parse_answer(body: bytes) -> dict[str, Any]:
  """Returns the arguments of `CurrentQuery.save` that the page sends.

  Raises:
    ValueError: If the body is anything else. The labels are not checked.
  """

  def convert(
    version: Any, index: Any, labels: Any, page_id: Any, serial: Any
  ) -> dict[str, Any]:
    return {
      "version": str(version),
      "index": operator.index(index),
      "labels": labels,
      "page_id": str(page_id),
      "serial": operator.index(serial),
    }

  try:
    return convert(**json.loads(body))
  except (ValueError, TypeError, RecursionError) as error:
    raise ValueError(f"Expected an answer, got {error!r}.") from None
