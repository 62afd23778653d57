"""The server of the page: to this machine alone, and only with its secret."""

from collections.abc import Callable
import hmac
from http import HTTPStatus
from http import server as http_server
import importlib.resources
import json
import operator
import os
import re
import sys
from typing import Any, NamedTuple

from absl import logging

from decern_jax.annotation.page import picture
from decern_jax.annotation.page.address import HOST, Address
from decern_jax.annotation.page.session import Session, StaleError

# Kinds of the files that the page consists of, which lie beside this one.
_MEDIA_TYPES = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
}
_FIRST_FILE = "page.html"

_IMAGE = re.compile(r"image/([0-9a-f]{16})/([0-9]{1,9})")
_LATEST = re.compile(r"latest/([0-9a-f]{16})")

_MAX_BODY = 2**20
# A browser opens connections that it may not use.
_SECONDS_TO_SEND = 30

# The page needs no other host, and no other site may hold it or read from it.
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


class Server(http_server.ThreadingHTTPServer):
  """Serves a session at an address of this machine.

  Attributes:
    address: Where; its port is the one that was taken.
    session: Whom it serves.
    files: Content and media type of what the page consists of, by name.
  """

  # One that waits for a browser does not keep the command from ending.
  daemon_threads = True

  def __init__(self, address: Address, session: Session):
    """Takes the port; `serve_forever` serves.

    Args:
      address: Where; its port may be 0.
      session: Whom it serves.

    Raises:
      OSError: If the port is taken or not allowed.
    """
    super().__init__((HOST, address.port), _Handler)
    self.address = address._replace(port=self.server_address[1])
    self.session = session
    self.files = _page_files()

  def handle_error(self, request: Any, client_address: Any) -> None:
    """Logs what went wrong; a browser may leave at any time."""
    if not isinstance(sys.exception(), ConnectionError):
      logging.exception("A request of the labeling page failed.")


class _Given(NamedTuple):
  """An answer as the page sends it: what `Session.save` takes."""

  version: str
  position: int
  labels: Any
  page: str
  serial: int


class _Reply(NamedTuple):
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
  """Returns all that the page consists of, by the name it is asked for by."""
  files = {}
  for file in importlib.resources.files(__package__).iterdir():
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
_STALE = _text(HTTPStatus.CONFLICT, "The run has asked something newer.")
_TOO_LARGE = _text(
  HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
  f"Expected a Content-Length up to {_MAX_BODY}.",
)


class _Handler(http_server.BaseHTTPRequestHandler):
  """Answers one request."""

  timeout = _SECONDS_TO_SEND
  server: Server

  def do_GET(self) -> None:  # noqa: N802 (http.server looks for this name)
    """Serves a file of the page, the query, or an image of it."""
    self._serve(self._get)

  def do_POST(self) -> None:  # noqa: N802
    """Takes an answer."""
    length = self.headers.get("Content-Length", "")
    if not (length.isdecimal() and int(length) <= _MAX_BODY):
      self._send(_TOO_LARGE)
      return
    # What is not read may cost the sender the reply.
    body = self.rfile.read(int(length))
    self._serve(lambda name: self._post(name, body))

  def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
    """Keeps the terminal quiet: the secret is in every request."""

  def _serve(self, reply_to: Callable[[str], _Reply]) -> None:
    """Replies to a request of the page, and to no other."""
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
    """Says whether a request knows the secret, and comes from the page."""
    address = self.server.address
    hosts = [f"{name}:{address.port}" for name in (HOST, "localhost")]
    # Another site whose name was made to lead here sends that name.
    host = self.headers.get_all("Host", [])
    if len(host) != 1 or host[0] not in hosts:
      return False
    if self.command == "POST" and self.headers.get("Origin") != (
      f"http://{host[0]}"
    ):
      return False
    return hmac.compare_digest(token.encode(), address.token.encode())

  def _get(self, name: str) -> _Reply:
    server = self.server
    if name in server.files:
      return server.files[name]
    if name == "query":
      return _json(server.session.view())
    if match := _LATEST.fullmatch(name):
      return _json(server.session.is_latest(match[1]))
    if match := _IMAGE.fullmatch(name):
      path = server.session.image_path(match[1], int(match[2]))
      return _Reply(HTTPStatus.OK, *picture.render(path))
    return _NOT_FOUND

  def _post(self, name: str, body: bytes) -> _Reply:
    if name != "answer":
      return _NOT_FOUND
    given = _parse_answer(body)
    self.server.session.save(
      given.version,
      given.position,
      given.labels,
      page=given.page,
      serial=given.serial,
    )
    return _json(True)

  def _send(self, reply: _Reply) -> None:
    self.send_response(reply.status)
    self.send_header("Content-Type", reply.media_type)
    self.send_header("Content-Length", str(len(reply.content)))
    for name, value in _HEADERS.items():
      self.send_header(name, value)
    self.end_headers()
    self.wfile.write(reply.content)


def _parse_answer(body: bytes) -> _Given:
  """Returns what the page sends."""
  try:
    given = _Given(**json.loads(body))
    return given._replace(
      version=str(given.version),
      position=operator.index(given.position),
      page=str(given.page),
      serial=operator.index(given.serial),
    )
  except (ValueError, TypeError, RecursionError) as error:
    raise ValueError(f"Expected an answer, got {error!r}.") from None
