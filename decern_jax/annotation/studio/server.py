"""A running Label Studio: what is asked of it, by its own package."""

import re
from typing import Any, NamedTuple

from decern_jax.annotation.studio.connection import Connection, MissingError

MIN_RELEASE = (1, 20)
"""Oldest release that is let in; 1.23.2 is the one that was tried."""

SECONDS = 120.0
"""How long an answer may take."""

_PAGE_SIZE = 1000


class Project(NamedTuple):
  """A project of the server.

  Attributes:
    number: Its number.
    description: What it is for.
    config: XML of what it asks.
    model_version: Name of the model whose predictions its pages show; "": of
      none yet.
  """

  number: int
  description: str
  config: str
  model_version: str = ""


class Server:
  """A server of the Community edition, of which nothing is ever deleted.

  Every method may raise a `LostError`, after which it may be tried again, or a
  `ValueError` that shows why the server refused.

  Attributes:
    url: Its address, without a slash at the end.
  """

  def __init__(self, url: str, key: str, *, seconds: float = SECONDS):
    """Checks how to reach the server, and reaches for nothing yet.

    Args:
      url: Its address.
      key: The key of a user: a personal access token or a legacy one.
      seconds: How long an answer may take.

    Raises:
      ValueError: If there is no such address or key, or the package is
        missing.
    """
    self._connection = Connection(url, key, seconds=seconds)
    self._client, self._call = self._connection.client, self._connection.call
    self.url = self._connection.url

  def close(self) -> None:
    """Ends the connection."""
    self._connection.close()

  def check(self) -> str:
    """Returns the release of the server, and checks that it takes the key.

    Raises:
      ValueError: If it is none that this program can use.
    """
    found = self._call(lambda: self._client.versions.get())
    release, edition = (
      str(getattr(found, name, "")) for name in ("release", "edition")
    )
    numbers = re.match(r"(\d+)\.(\d+)", release)
    if not numbers or tuple(map(int, numbers.groups())) < MIN_RELEASE:
      raise ValueError(
        f"Expected Label Studio >= {'.'.join(map(str, MIN_RELEASE))} at"
        f" {self.url}, got {release or 'another program'!r}."
      )
    if edition != "Community":
      # It takes tasks in some time after it said so.
      raise ValueError(
        f"Expected the Community edition of Label Studio at {self.url}, got"
        f" {edition!r}."
      )
    self._call(lambda: self._client.users.whoami())
    return release

  def projects(self) -> list[Project]:
    """Returns all projects that the user sees."""
    return self._call(
      lambda: [
        _project(found)
        for found in self._client.projects.list(page_size=_PAGE_SIZE)
      ]
    )

  def project(self, number: int) -> Project | None:
    """Returns a project, or None if there is none.

    Args:
      number: Its number.
    """
    try:
      return self._call(lambda: _project(self._client.projects.get(number)))
    except MissingError:
      return None

  def create_project(self, title: str, description: str, config: str) -> None:
    """Makes a project.

    Args:
      title: Its name, of 3 to 50 characters.
      description: What it is for.
      config: XML of what it asks.
    """
    self._call(
      lambda: self._client.projects.create(
        title=title, description=description, label_config=config
      )
    )

  def configure(self, number: int, config: str) -> None:
    """Changes what a project asks.

    Args:
      number: Of the project.
      config: XML of what it asks.
    """
    self._call(
      lambda: self._client.projects.update(number, label_config=config)
    )

  def show_model(self, number: int, model_version: str) -> None:
    """Has the pages of a project show the predictions of a model.

    Args:
      number: Of the project.
      model_version: Name of a model that the project has predictions of.
    """
    self._call(
      lambda: self._client.projects.update(number, model_version=model_version)
    )

  def folders(self, number: int) -> list[str]:
    """Returns the folders of the server's machine that a project may show.

    Args:
      number: Of the project.
    """
    storages = self._client.import_storage.local
    return self._call(
      lambda: [s.path or "" for s in storages.list(project=number)]
    )

  def add_folder(self, number: int, path: str) -> None:
    """Lets a project show the images of a folder; none becomes a task.

    Args:
      number: Of the project.
      path: The folder, on the machine of the server.
    """
    self._call(
      lambda: self._client.import_storage.local.create(
        project=number, path=path, title="decern_jax", use_blob_urls=True
      )
    )

  def shows(self, address: str) -> bool:
    """Says whether the pages can show an image.

    Args:
      address: As `label_studio.image_address` returns it for a file.
    """
    return self._connection.status(address) == 200

  def tasks(self, number: int) -> list[dict[str, Any]]:
    """Returns the data of all tasks of a project.

    Args:
      number: Of the project.
    """
    return self._call(
      lambda: [
        task.data or {}
        for task in self._client.tasks.list(
          project=number,
          fields="task_only",
          include="id,data",
          page_size=_PAGE_SIZE,
        )
      ]
    )

  def add_tasks(self, number: int, tasks: list[dict[str, Any]]) -> None:
    """Adds tasks to a project.

    Args:
      number: Of the project.
      tasks: As `label_studio.tasks` returns them.
    """
    self._call(
      lambda: self._client.projects.import_tasks(number, request=tasks)
    )

  def export(self, number: int) -> bytes:
    """Returns all tasks that have annotations, with these, as JSON.

    Args:
      number: Of the project.
    """
    return self._call(
      lambda: b"".join(
        self._client.projects.exports.download_sync(
          number, export_type="JSON", download_all_tasks=False
        )
      )
    )


def _project(found: Any) -> Project:
  return Project(
    found.id,
    found.description or "",
    found.label_config or "",
    found.model_version or "",
  )
