"""Requests to a Label Studio server, with the key of a user."""

from collections.abc import Callable
import contextlib
import dataclasses
import email.message
import http.client
import ipaddress
import json
import re
import socket
from typing import Any, TypeVar
import urllib.error
import urllib.parse
import urllib.request

KEY_VARIABLE = "LABEL_STUDIO_API_KEY"
"""Environment variable that holds the key, which is never written anywhere."""

TIMEOUT = 120.0
"""Longest time without an answer, in seconds."""

# The server, or a proxy before it, may be back in a moment.
_TRANSIENT_STATUSES = frozenset((408, 425, 429, 500, 502, 503, 504))

# A proxy stopped waiting for the server, which may still be working.
_UNCLEAR_STATUSES = frozenset((408, 502, 504))

_T = TypeVar("_T")


class TransientError(RuntimeError):
  """A request got no valid answer; a retry may succeed.

  Attributes:
    may_be_done: Whether the server may have carried out the request, or may
      still do so.
  """

  def __init__(self, message: str, *, may_be_done: bool):
    super().__init__(message)
    self.may_be_done = may_be_done


class MissingError(ValueError):
  """The server answers that there is no such object."""


@dataclasses.dataclass(frozen=True)
class _Answer:
  """An answer of the server: a status, the address of a redirect, a body."""

  status: int
  location: str | None
  content: bytes

  @property
  def is_success(self) -> bool:
    """Whether the server did what it was asked."""
    return 200 <= self.status < 300

  def explain(self) -> str:
    """Returns the status with the message in the body, shortened."""
    detail = _detail(self.content)
    if self.location:
      detail = f"see {self.location}"
    return f"status {self.status}: {detail}"


class Connection:
  """Sends requests, each once and with the key, and explains refusals.

  Attributes:
    url: Address of the server, without a slash at the end.
  """

  def __init__(
    self, url: str, key: str, *, allow_http: bool, timeout: float = TIMEOUT
  ):
    """Checks the arguments, and connects to nothing yet.

    Args:
      url: Address of the server.
      key: The key of a user: a personal access token or a legacy one.
      allow_http: Whether the key may be sent to another machine unencrypted.
      timeout: Longest time without an answer, in seconds.

    Raises:
      ValueError: If the address or key is malformed, or the key would be sent
        unencrypted.
    """
    self.url = _check_url(url)
    self._key = _check_key(key)
    self._access = ""
    self._timeout = timeout
    is_local = _is_loopback(self.url)
    if not (is_local or allow_http or self.url.lower().startswith("https:")):
      raise ValueError(
        f"Expected `url` with https://, got {self.url!r}: the key would cross"
        " the network unencrypted. `--allow_http` permits it."
      )
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if is_local:
      handlers.append(urllib.request.ProxyHandler({}))
    self._opener = urllib.request.build_opener(*handlers)

  def ask(
    self, method: str, path: str, body: object = None, **query: object
  ) -> Any:
    """Returns the JSON that the server answers, None if that is empty.

    Raises:
      ValueError: If it is not JSON, or as in `fetch`.
    """
    address = f"{path}?{urllib.parse.urlencode(query)}" if query else path
    content = self.fetch(method, address, body)
    return self.read(json.loads, content) if content else None

  def read(self, read: Callable[[Any], _T], answer: Any) -> _T:
    """Applies a function to an answer.

    Raises:
      ValueError: If the function fails on the answer.
    """
    try:
      return read(answer)
    except (
      *(ValueError, TypeError, LookupError),
      *(AttributeError, RecursionError),
    ) as error:
      raise ValueError(
        f"Expected Label Studio at {self.url}, got an answer of another kind"
        f" ({type(error).__name__})."
      ) from None

  def fetch(self, method: str, address: str, body: object = None) -> bytes:
    """Returns the body of an answer.

    Args:
      method: GET, POST or PATCH.
      address: Path on the server, with a query.
      body: What is sent as JSON; None for nothing.

    Raises:
      TransientError: If there was no valid answer; a retry may succeed.
      MissingError: If the server has no such object.
      ValueError: If it refuses.
    """
    answer = self.send(method, address, body)
    if not answer.is_success:
      raise self._refusal(answer)
    return answer.content

  def send(self, method: str, address: str, body: object = None) -> _Answer:
    """Returns the answer to a request, whatever its status.

    Raises:
      TransientError: If there was no answer.
      ValueError: If the server does not exchange the key.
    """
    # A personal access token is a JSON web token, which the server exchanges
    # for one of a few minutes. A legacy token is sent as it is.
    if self._key.count(".") != 2:
      return self._open(method, address, body, f"Token {self._key}")
    if self._access:
      answer = self._open(method, address, body, f"Bearer {self._access}")
      # Such a request was not carried out: it can be repeated with a new token.
      if answer.status != 401:
        return answer
    answer = self._open("POST", "/api/token/refresh/", {"refresh": self._key})
    if not answer.is_success:
      raise self._refusal(answer)
    self._access = self.read(
      lambda content: _check_key(json.loads(content)["access"]), answer.content
    )
    return self._open(method, address, body, f"Bearer {self._access}")

  def _open(
    self, method: str, address: str, body: object, authorization: str = ""
  ) -> _Answer:
    """Sends one request, and returns the answer."""
    data = None if body is None else json.dumps(body).encode("ascii")
    headers = {
      "Authorization": authorization,
      "Content-Type": "" if data is None else "application/json",
    }
    request = urllib.request.Request(
      self.url + address,
      data,
      {name: value for name, value in headers.items() if value},
      method=method,
    )
    try:
      try:
        reply: Any = self._opener.open(request, timeout=self._timeout)
      except urllib.error.HTTPError as error:
        reply = error
      with reply:
        location = reply.headers.get("Location")
        return _Answer(reply.status, location, reply.read())
    except (OSError, http.client.HTTPException) as error:
      raise self._no_answer(error) from None

  def _no_answer(self, error: Exception) -> TransientError:
    if isinstance(error, urllib.error.URLError):
      reason = error.reason
      error = reason if isinstance(reason, OSError) else OSError(reason)
    text = getattr(error, "strerror", None) or str(error)
    not_sent = ConnectionRefusedError | socket.gaierror
    return TransientError(
      f"Expected an answer of Label Studio at {self.url}, got"
      f" {text.rstrip('.') or type(error).__name__}.",
      may_be_done=not isinstance(error, not_sent),
    )

  def _refusal(self, answer: _Answer) -> Exception:
    """Returns the error that shows what the server answered."""
    explained = answer.explain()
    # A server, or a proxy before it, may repeat what it was sent.
    for secret in filter(None, (self._key, self._access)):
      explained = explained.replace(secret, "<key>")
    if answer.status in (401, 403):
      return ValueError(
        f"Expected a key in {KEY_VARIABLE} that Label Studio at {self.url}"
        f" takes, got {explained}. Its page Account & Settings shows keys."
      )
    message = (
      f"Expected Label Studio at {self.url} to do what it was asked, got"
      f" {explained}."
    )
    if answer.status in _TRANSIENT_STATUSES:
      return TransientError(
        message, may_be_done=answer.status in _UNCLEAR_STATUSES
      )
    return (
      MissingError(message) if answer.status == 404 else ValueError(message)
    )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
  """Does not follow redirects, which would turn a POST into a GET."""

  def redirect_request(
    self,
    req: urllib.request.Request,
    fp: Any,
    code: int,
    msg: str,
    headers: email.message.Message,
    newurl: str,
  ) -> None:
    """Returns no request, so that the redirect is the answer."""
    del req, fp, code, msg, headers, newurl


def _detail(content: bytes) -> str:
  """Returns the message in the body of an answer, shortened."""
  body: Any = content.decode(errors="replace")
  with contextlib.suppress(ValueError, RecursionError):
    body = json.loads(body)
  if isinstance(body, dict):
    body = body.get("validation_errors") or body.get("detail") or body
  if isinstance(body, dict):
    body = body.get("non_field_errors") or body
  if isinstance(body, list) and len(body) == 1:
    (body,) = body
  text = " ".join(str(body).split()).rstrip(".")
  return f"a page that begins {text[:40]!r}" if text[:1] == "<" else text[:400]


def _check_url(url: str) -> str:
  """Returns the address of a server without slashes at the end."""
  try:
    parts = urllib.parse.urlsplit(url)
    is_valid = parts.scheme in ("http", "https") and bool(parts.hostname)
    is_valid = is_valid and (parts.port is None or parts.port > 0)
  except ValueError:
    is_valid = False
  if not is_valid or parts.query or parts.fragment or not url.isprintable():
    raise ValueError(
      f"Expected `url` such as http://localhost:8080, got {url!r}."
    )
  if "@" in parts.netloc:
    raise ValueError(
      "Expected `url` without a user or a password, which would be written to"
      " disk, got one with them."
    )
  return url.rstrip("/")


def _check_key(key: str) -> str:
  """Returns a key without spaces around it; its errors never show it."""
  key = key.strip()
  if not key:
    raise ValueError(
      f"Expected the key of a user of Label Studio in {KEY_VARIABLE}, got"
      " none. Its page Account & Settings shows keys."
    )
  if not re.fullmatch("[!-~]+", key):
    raise ValueError(
      f"Expected a key in {KEY_VARIABLE} of ASCII letters, digits and signs,"
      " got other characters."
    )
  return key


def _is_loopback(url: str) -> bool:
  """Returns whether a server is on this machine."""
  host = urllib.parse.urlsplit(url).hostname or ""
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return host == "localhost" or host.endswith(".localhost")
