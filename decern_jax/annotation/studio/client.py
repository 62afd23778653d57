"""The client of a Label Studio server: its requests, errors and retries.

A request whose answer was lost may have been carried out, or may still be.
Adding something twice would be wrong, so `ensure` looks for it first.
"""

from collections.abc import Callable
import dataclasses
import itertools
import re
import time
from typing import Any, TypeVar

from absl import logging

from decern_jax.annotation.studio.connection import (
  KEY_VARIABLE,
  TIMEOUT,
  Connection,
  MissingError,
  TransientError,
)

__all__ = [
  "KEY_VARIABLE",
  "Client",
  "MissingError",
  "Project",
  "TransientError",
  "ensure",
  "retry",
]

MIN_RELEASE = (1, 20)
"""Oldest release that is accepted; the tests ran with 1.23.2."""

RETRY_DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds to wait after each failure in a row, except the last."""

MAX_REQUESTS = 3
"""Largest number of requests that `ensure` makes."""

_PAGE_SIZE = 1000

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Project:
  """A project of the server.

  Attributes:
    number: Its number, which the methods of `Client` take.
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
    RuntimeError: If the server reported success, but the result is missing.
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
  """Waits for the result of a request that may still be running; else None."""
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

  def __init__(
    self,
    url: str,
    key: str,
    *,
    allow_http: bool = False,
    timeout: float = TIMEOUT,
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
    self._connection = Connection(
      url, key, allow_http=allow_http, timeout=timeout
    )
    self.url = self._connection.url

  def check(self) -> str:
    """Checks the release of the server, and that it accepts the key.

    Raises:
      ValueError: If it is not one that this program can use.
    """
    found = self._connection.ask("GET", "/api/version/")
    release, edition = (
      str(found.get(name, "")) if isinstance(found, dict) else ""
      for name in ("release", "edition")
    )
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
    self._connection.ask("GET", "/api/current-user/whoami")
    return release

  def projects(self) -> list[Project]:
    """Returns all projects that the user can see."""
    return self._list("/api/projects/", "results", _project)

  def project(self, number: int) -> Project | None:
    """Returns a project by its number, or None if there is none."""
    try:
      found = self._connection.ask("GET", f"/api/projects/{number}/")
    except MissingError:
      return None
    return self._connection.read(_project, found)

  def create_project(self, title: str, description: str, config: str) -> None:
    """Creates a project; its title has 3 to 50 characters, `config` is XML."""
    fields = {"title": title, "description": description}
    self._connection.ask(
      "POST", "/api/projects/", {**fields, "label_config": config}
    )

  def set_config(self, number: int, config: str) -> None:
    """Changes the labeling configuration of a project."""
    self._connection.ask(
      "PATCH", f"/api/projects/{number}/", {"label_config": config}
    )

  def set_model_version(self, number: int, model_version: str) -> None:
    """Makes a project show the predictions of a model, which must exist."""
    fields = {"model_version": model_version}
    self._connection.ask("PATCH", f"/api/projects/{number}/", fields)

  def folders(self, number: int) -> list[str]:
    """Returns the folders on the server's machine that a project may show."""
    found = self._connection.ask(
      "GET", "/api/storages/localfiles/", project=number
    )
    return self._connection.read(
      lambda found: [s["path"] or "" for s in found], found
    )

  def add_folder(self, number: int, path: str) -> None:
    """Lets a project show images in a folder there; creates no tasks."""
    fields = {"project": number, "path": path, "title": "decern_jax"}
    self._connection.ask(
      "POST", "/api/storages/localfiles/", {**fields, "use_blob_urls": True}
    )

  def can_show(self, address: str) -> bool:
    """Returns whether the server shows `label_studio.image_address(path)`."""
    return self._connection.send("GET", address).status == 200

  def tasks(self, number: int) -> list[dict[str, Any]]:
    """Returns the data of all tasks of a project."""
    return self._list(
      "/api/tasks/",
      "tasks",
      lambda task: task["data"] or {},
      project=number,
      fields="task_only",
      include="id,data",
    )

  def add_tasks(self, number: int, tasks: list[dict[str, Any]]) -> None:
    """Adds tasks, as `label_studio.tasks` returns them, to a project."""
    self._connection.ask("POST", f"/api/projects/{number}/import", tasks)

  def export(self, number: int) -> bytes:
    """Returns the annotated tasks of a project as JSON."""
    query = "export_type=JSON&download_all_tasks=false"
    return self._connection.fetch(
      "GET", f"/api/projects/{number}/export?{query}"
    )

  def _list(
    self, path: str, name: str, read: Callable[[Any], _T], **query: object
  ) -> list[_T]:
    """Returns the entries of all pages of a list."""
    entries: list[_T] = []
    for page in itertools.count(1):
      try:
        found = self._connection.ask(
          "GET", path, **query, page=page, page_size=_PAGE_SIZE
        )
      except MissingError:
        # The server may have no page after the last one.
        if page == 1:
          raise
        break
      more = self._connection.read(lambda f: [*map(read, f[name])], found)
      if not more:
        break
      entries += more
    return entries


def _project(found: dict[str, Any]) -> Project:
  return Project(
    int(found["id"]),
    found.get("description") or "",
    found.get("label_config") or "",
    found.get("model_version") or "",
  )
