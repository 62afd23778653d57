"""The Label Studio project of a run: created once, and kept up to date."""

import dataclasses
import json
import os
import posixpath
import secrets
from xml.etree import ElementTree

from etils import epath

from decern_jax.annotation.formats import label_studio
from decern_jax.annotation.query import Item, Query
from decern_jax.annotation.studio.client import Client, Project, ensure, retry
from decern_jax.io import storage

LINK_FILE = "label_studio.json"
"""File of a run that names its project."""

_MAX_TITLE = 50  # characters, as the server has it
_NUM_MARK_BYTES = 12


@dataclasses.dataclass(frozen=True)
class Link:
  """Names the server and project of a run.

  Attributes:
    url: Address of the server.
    mark: Text in the description of the project, and in no other. It finds the
      project if the answer to its creation was lost.
    project: Number of the project, or None if it is not known yet.
  """

  url: str
  mark: str
  project: int | None = None


def create_link(url: str) -> Link:
  """Returns the link to a project that will be created on a server."""
  return Link(url, f"decern_jax {secrets.token_hex(_NUM_MARK_BYTES)}")


def read_link(workdir: epath.PathLike) -> Link | None:
  """Reads the link of a run; returns None if nothing was ever pushed.

  Raises:
    ValueError: If the file is not what `write_link` writes.
  """
  path = _link_path(workdir)
  content = storage.read_if_exists(path)
  if content is None:
    return None
  try:
    link = Link(**json.loads(content))
    is_valid = isinstance(link.url, str) and isinstance(link.mark, str)
    # `type`, as a bool is an int too.
    is_valid = is_valid and type(link.project) in (int, type(None))
  except (ValueError, TypeError, RecursionError):
    is_valid = False
  if not is_valid or not link.mark:
    raise ValueError(
      f"Expected the url, mark and project of a run in {path}, got"
      f" {content[:200]!r}."
    )
  return link


def write_link(workdir: epath.PathLike, link: Link) -> None:
  """Writes the link of a run."""
  content = json.dumps(dataclasses.asdict(link), indent=2) + "\n"
  storage.write_atomically(_link_path(workdir), content.encode("ascii"))


def find(client: Client, workdir: epath.PathLike) -> Project:
  """Returns the project of a run.

  Raises:
    ValueError: If the run has no project, or it is on another server, or it no
      longer exists.
  """
  link = read_link(workdir)
  if link is None or link.project is None:
    raise ValueError(
      f"Expected a project of the run {workdir} on {client.url}, got none:"
      " push its query first."
    )
  _check_same_server(client, link, workdir)
  return _require_project(client, link.project, workdir)


def find_or_create(
  client: Client, workdir: epath.PathLike, query: Query
) -> Project:
  """Returns the project of a run, which is created if the run has none.

  Raises:
    ValueError: As in `find`, or as in `label_studio.labeling_config`.
    OSError: If the link cannot be written.
  """
  link = read_link(workdir)
  if link is None:
    link = create_link(client.url)
    # Before the project is created: after a crash, its mark still finds it.
    write_link(workdir, link)
  _check_same_server(client, link, workdir)
  if link.project is not None:
    return _require_project(client, link.project, workdir)
  return _create(client, link, workdir, query)


def add_classes(client: Client, project: Project, query: Query) -> None:
  """Adds the classes of a query to the choices of a project.

  Classes that are not in the query are kept: annotators may have added them,
  and their annotations name them.

  Raises:
    ValueError: As in `with_classes`.
  """
  config = with_classes(project.config, query)
  if config != project.config:
    retry(lambda: client.set_config(project.number, config))


def show_predictions(client: Client, project: Project, query: Query) -> None:
  """Makes the pages show the predictions of a query, whose tasks are pushed.

  The pages show the predictions of one model, by default of the first round.
  """
  versions = {
    prediction["model_version"]
    for task in label_studio.tasks(query)
    for prediction in task.get("predictions", ())
  }
  for version in versions - {project.model_version}:
    retry(lambda v=version: client.set_model_version(project.number, v))


def with_classes(config: str, query: Query) -> str:
  """Returns a labeling configuration with choices for all classes of a query.

  Everything else in the configuration, which is XML, is kept.

  Raises:
    ValueError: If it lacks the choices that answers are read from, or as in
      `label_studio.labeling_config`.
  """
  ours = ElementTree.fromstring(label_studio.labeling_config(query))
  (name,) = (choices.get("name") for choices in ours.iter("Choices"))
  builder = ElementTree.TreeBuilder(insert_comments=True)
  try:
    root = ElementTree.fromstring(config, ElementTree.XMLParser(target=builder))
  except ElementTree.ParseError:
    root = ElementTree.Element("View")
  choices = root.find(f".//Choices[@name='{name}']")
  if choices is None:
    raise ValueError(
      f"Expected choices by the name {name!r} in the labeling configuration of"
      f" the project, got {config!r:.400}."
    )
  known = {choice.get("value") for choice in choices.iter("Choice")}
  missing = [class_ for class_ in query.class_names if class_ not in known]
  for class_ in missing:
    ElementTree.SubElement(choices, "Choice", value=class_)
  return ElementTree.tostring(root, encoding="unicode") if missing else config


def show_folders(
  client: Client, project: Project, items: tuple[Item, ...]
) -> None:
  """Lets a project show the images of a query that are local files.

  Images on gs:// need a cloud storage, which people connect on its page.

  Raises:
    ValueError: If the server cannot show them; shows why.
  """
  local = [item for item in items if not storage.is_remote(item.path)]
  for folder in dict.fromkeys(map(_folder, local)):

    def find_folder(folder: str = folder) -> bool | None:
      return folder in client.folders(project.number) or None

    def add(folder: str = folder) -> None:
      client.add_folder(project.number, folder)

    ensure(find_folder, add)


def _folder(item: Item) -> str:
  """Returns the root folder of the data set that an image belongs to."""
  path = item.path.replace(os.sep, "/")
  root = path.removesuffix(f"/{item.id}")
  return posixpath.dirname(path) if root == path else root


def _create(
  client: Client, link: Link, workdir: epath.PathLike, query: Query
) -> Project:
  """Creates the project unless it exists, and writes its number."""
  config = label_studio.labeling_config(query)
  name = storage.as_path(workdir).name
  title = f"decern_jax {name}".encode(errors="replace").decode()[:_MAX_TITLE]
  description = f"Images that a run asks about ({link.mark})."

  def find_marked() -> Project | None:
    found = (p for p in client.projects() if link.mark in p.description)
    return next(found, None)

  created = ensure(
    find_marked, lambda: client.create_project(title, description, config)
  )
  write_link(workdir, dataclasses.replace(link, project=created.number))
  return _require_project(client, created.number, workdir)


def _require_project(
  client: Client, number: int, workdir: epath.PathLike
) -> Project:
  found = retry(lambda: client.project(number))
  if found is None:
    raise ValueError(
      f"Expected project {number} of {client.url}, which {_link_path(workdir)}"
      " names, got none. Without that file, a new project is made."
    )
  return found


def _check_same_server(
  client: Client, link: Link, workdir: epath.PathLike
) -> None:
  if link.url != client.url:
    raise ValueError(
      f"Expected `url` {link.url}, where the project of the run is, got"
      f" {client.url}. If the server has moved, change the address in"
      f" {_link_path(workdir)}."
    )


def _link_path(workdir: epath.PathLike) -> epath.Path:
  return storage.as_path(workdir) / LINK_FILE
