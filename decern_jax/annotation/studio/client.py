"""The client of a Label Studio server: its requests, errors and retries.

A request whose answer was lost may have been carried out, or may still be.
Adding something twice would be wrong, so `ensure` looks for it first.
"""

from collections.abc import Callable
import dataclasses
import re
import time
from typing import Any, TypeVar
import urllib.parse

from absl import logging

KEY_VARIABLE = "LABEL_STUDIO_API_KEY"
"""Environment variable that holds the key, which is never written anywhere."""

MIN_RELEASE = (1, 20)
"""Oldest release that is accepted; the tests ran with 1.23.2."""

TIMEOUT = 120.0
"""Longest time of one request, in seconds."""

RETRY_DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds to wait after each failure in a row, except the last."""

MAX_REQUESTS = 3
"""How often `ensure` makes its request at most."""

_PAGE_SIZE = 1000

# The server, or a proxy before it, may be back in a moment.
_TRANSIENT_STATUSES = frozenset((408, 425, 429, 500, 502, 503, 504))

# A proxy stopped waiting for the server, which may still be working.
_UNCLEAR_STATUSES = frozenset((408, 502, 504))

_T = TypeVar("_T")


class TransientError(RuntimeError):
  """A request got no proper answer; it may get one the next time.

  Attributes:
    may_be_done: Whether the server may have carried it out, or still may.
  """

  def __init__(self, message: str, *, may_be_done: bool):
    super().__init__(message)
    self.may_be_done = may_be_done


class MissingError(ValueError):
  """The server answers that there is no such object."""


@dataclasses.dataclass(frozen=True)
class Project:
  """A project of the server.

  Attributes:
    number: Its number, by which the methods of `Client` name it.
    description: Its description.
    config: Its labeling configuration, in XML.
    model_version: Name of the model whose predictions its pages show, or "".
  """

  number: int
  description: str
  config: str
  model_version: str = ""


def retry(request: Callable[[], _T]) -> _T:
  """Repeats a request until it gets an answer, a bounded number of times.

  Args:
    request: Makes a request that may be carried out more than once.

  Returns:
    Its answer.

  Raises:
    TransientError: If it still has no answer after the last delay.
  """
  for delay in RETRY_DELAYS:
    try:
      return request()
    except TransientError as error:
      logging.warning("%s Trying again in %g s.", error, delay)
      time.sleep(delay)
  return request()


def ensure(find: Callable[[], _T | None], request: Callable[[], object]) -> _T:
  """Makes the server do something exactly once, even if answers are lost.

  Returns:
    The result, as `find` returns it.

  Raises:
    TransientError: If the server did not do it.
    RuntimeError: If the server reported success, and the result is not there.
  """
  for attempt in range(1, MAX_REQUESTS + 1):
    found = retry(find)
    if found is not None:
      return found
    try:
      request()
    except TransientError as error:
      found = _wait_for_result(find, error)
      if found is not None:
        return found
      if attempt == MAX_REQUESTS:
        raise
    else:
      break
  found = retry(find)
  if found is None:
    raise RuntimeError(
      "Expected to find in Label Studio what it reported as done, got nothing."
    )
  return found


def _wait_for_result(
  find: Callable[[], _T | None], error: TransientError
) -> _T | None:
  """Waits for what the server may still be doing; returns it, or None."""
  for delay in RETRY_DELAYS if error.may_be_done else RETRY_DELAYS[:1]:
    logging.warning("%s Checking in %g s whether it was done.", error, delay)
    time.sleep(delay)
    found = retry(find)
    if found is not None:
      return found
  return None


class Client:
  """Requests to a server of the Community edition; none deletes anything.

  Every method may raise a `TransientError`, after which it may be repeated, or
  a `ValueError` that shows why the server refused.

  Attributes:
    url: Address of the server, without a slash at the end.
  """

  def __init__(self, url: str, key: str, *, timeout: float = TIMEOUT):
    """Checks the arguments, and connects to nothing yet.

    Args:
      url: Address of the server.
      key: The key of a user: a personal access token or a legacy one.
      timeout: Longest time of one request, in seconds.

    Raises:
      ValueError: If the address or key is malformed, or the package
        label-studio-sdk is missing.
    """
    self.url = _check_url(url)
    key = _check_key(key)
    self._sdk, self._httpx = _import_sdk()
    # A redirect would turn a POST into a GET, and the retries of the package
    # would repeat requests that must not be carried out twice.
    self._http = self._httpx.Client(timeout=timeout, follow_redirects=False)
    self._api = self._call(
      lambda: self._sdk.LabelStudio(
        base_url=self.url,
        api_key=key,
        timeout=timeout,
        max_retries=0,
        httpx_client=self._http,
      )
    )

  def close(self) -> None:
    """Closes the connection."""
    self._http.close()

  def check(self) -> str:
    """Checks the release of the server, and that it accepts the key.

    Returns:
      The release.

    Raises:
      ValueError: If it is not one that this program can use.
    """
    found = self._call(lambda: self._api.versions.get())
    release = str(getattr(found, "release", ""))
    edition = str(getattr(found, "edition", ""))
    numbers = re.match(r"(\d+)\.(\d+)", release)
    if not numbers or tuple(map(int, numbers.groups())) < MIN_RELEASE:
      raise ValueError(
        f"Expected Label Studio >= {'.'.join(map(str, MIN_RELEASE))} at"
        f" {self.url}, got {release or 'another program'!r}."
      )
    if edition != "Community":
      # It reports success before imported tasks can be found.
      raise ValueError(
        f"Expected the Community edition of Label Studio at {self.url}, got"
        f" {edition!r}."
      )
    self._call(lambda: self._api.users.whoami())
    return release

  def projects(self) -> list[Project]:
    """Returns all projects that the user can see."""
    return self._call(
      lambda: [
        _project(found)
        for found in self._api.projects.list(page_size=_PAGE_SIZE)
      ]
    )

  def project(self, number: int) -> Project | None:
    """Returns a project by its number, or None if there is none."""
    try:
      return self._call(lambda: _project(self._api.projects.get(number)))
    except MissingError:
      return None

  def create_project(self, title: str, description: str, config: str) -> None:
    """Creates a project; its title has 3 to 50 characters, `config` is XML."""
    self._call(
      lambda: self._api.projects.create(
        title=title, description=description, label_config=config
      )
    )

  def set_config(self, number: int, config: str) -> None:
    """Changes the labeling configuration of a project."""
    self._call(lambda: self._api.projects.update(number, label_config=config))

  def set_model_version(self, number: int, model_version: str) -> None:
    """Makes a project show the predictions of a model, which must exist."""
    self._call(
      lambda: self._api.projects.update(number, model_version=model_version)
    )

  def folders(self, number: int) -> list[str]:
    """Returns the folders on the server's machine that a project may show."""
    storages = self._api.import_storage.local
    return self._call(
      lambda: [s.path or "" for s in storages.list(project=number)]
    )

  def add_folder(self, number: int, path: str) -> None:
    """Lets a project show images in a folder there; creates no tasks."""
    self._call(
      lambda: self._api.import_storage.local.create(
        project=number, path=path, title="decern_jax", use_blob_urls=True
      )
    )

  def can_show(self, address: str) -> bool:
    """Returns whether the server shows `label_studio.image_address(path)`."""
    # The package has no method for paths outside its API.
    headers = self._api._client_wrapper.get_headers
    reply = self._call(
      lambda: self._http.get(self.url + address, headers=headers())
    )
    return reply.status_code == 200

  def tasks(self, number: int) -> list[dict[str, Any]]:
    """Returns the data of all tasks of a project."""
    return self._call(
      lambda: [
        task.data or {}
        for task in self._api.tasks.list(
          project=number,
          fields="task_only",
          include="id,data",
          page_size=_PAGE_SIZE,
        )
      ]
    )

  def add_tasks(self, number: int, tasks: list[dict[str, Any]]) -> None:
    """Adds tasks, as `label_studio.tasks` returns them, to a project."""
    self._call(lambda: self._api.projects.import_tasks(number, request=tasks))

  def export(self, number: int) -> bytes:
    """Returns the annotated tasks of a project as JSON."""
    return self._call(
      lambda: b"".join(
        self._api.projects.exports.download_sync(
          number, export_type="JSON", download_all_tasks=False
        )
      )
    )

  def _call(self, request: Callable[[], _T]) -> _T:
    """Returns the answer to a request, or raises an error that explains it.

    Raises:
      TransientError: If there was no proper answer; the next may be one.
      MissingError: If the server has no such object.
      ValueError: If it refuses, or is not a Label Studio.
    """
    refused = self._sdk.core.ApiError
    try:
      return request()
    except self._httpx.TransportError as error:
      raise self._connection_error(error) from None
    except refused as error:
      raise self._status_error(error) from None
    except (ValueError, TypeError, AttributeError) as error:
      # The package could not use the answer, here or when it exchanged the key.
      raise ValueError(
        f"Expected Label Studio at {self.url}, got an answer of another kind"
        f" ({type(error).__name__})."
      ) from None

  def _connection_error(self, error: Exception) -> TransientError:
    not_sent = (self._httpx.ConnectError, self._httpx.ConnectTimeout)
    return TransientError(
      f"Expected an answer of Label Studio at {self.url}, got"
      f" {str(error).rstrip('.') or type(error).__name__}.",
      may_be_done=not isinstance(error, not_sent),
    )

  def _status_error(self, error: Any) -> Exception:
    """Returns the error that shows what the server answered."""
    status = error.status_code
    location = (error.headers or {}).get("location")
    detail = f"see {location}" if location else _detail(error.body)
    answer = f"status {status}: {detail}"
    if status in (401, 403):
      return ValueError(
        f"Expected a key in {KEY_VARIABLE} that Label Studio at {self.url}"
        f" takes, got {answer}. Its page Account & Settings shows keys."
      )
    message = (
      f"Expected Label Studio at {self.url} to do what it was asked, got"
      f" {answer}."
    )
    if status in _TRANSIENT_STATUSES:
      return TransientError(message, may_be_done=status in _UNCLEAR_STATUSES)
    return MissingError(message) if status == 404 else ValueError(message)


def _project(found: Any) -> Project:
  return Project(
    found.id,
    found.description or "",
    found.label_config or "",
    found.model_version or "",
  )


def _detail(body: Any) -> str:
  """Returns the message in the body of an answer, shortened."""
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


def _import_sdk() -> tuple[Any, Any]:
  """Returns the packages label_studio_sdk and httpx."""
  try:
    import httpx  # pyright: ignore[reportMissingImports]
    import label_studio_sdk  # pyright: ignore[reportMissingImports]
    import label_studio_sdk.core  # pyright: ignore[reportMissingImports]
  except ImportError as error:
    raise ValueError(
      "Expected the package label-studio-sdk, which"
      ' `pip install "decern_jax[labelstudio]"` installs, got'
      f" {str(error) or 'none'}."
    ) from None
  if not hasattr(label_studio_sdk, "LabelStudio"):
    raise ValueError(
      "Expected label-studio-sdk >= 2, got an older one:"
      ' `pip install --upgrade "decern_jax[labelstudio]"`.'
    )
  return label_studio_sdk, httpx
