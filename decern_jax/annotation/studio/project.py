"""The project of a run on a server: made once, kept up to date."""

import posixpath
from xml.etree import ElementTree

from etils import epath

from decern_jax.annotation.formats import label_studio
from decern_jax.annotation.query import Item, Query
from decern_jax.annotation.studio import patience, record
from decern_jax.annotation.studio.record import Record
from decern_jax.annotation.studio.server import Project, Server
from decern_jax.io import storage

_MAX_TITLE = 50  # characters, as the server has it
_CHOICES = ".//Choices"


def find(server: Server, workdir: epath.PathLike) -> Project:
  """Returns the project of a run.

  Args:
    server: The server.
    workdir: Directory of the run.

  Raises:
    ValueError: If the run has none, or it is on another server or gone.
  """
  kept = record.read(workdir)
  if kept is None or kept.project is None:
    raise ValueError(
      f"Expected a project of the run {workdir} on {server.url}, got none:"
      " push its query first."
    )
  _check_same_server(server, kept, workdir)
  return _find_known(server, kept.project, workdir)


def find_or_create(
  server: Server, workdir: epath.PathLike, query: Query
) -> Project:
  """Returns the project of a run, which is made if the run has none.

  Args:
    server: The server.
    workdir: Directory of the run, which then knows its project.
    query: What is asked first.

  Raises:
    ValueError: As in `find`, or as in `label_studio.labeling_config`.
    OSError: If the record cannot be written.
  """
  kept = record.read(workdir)
  if kept is None:
    kept = record.make(server.url)
    # Before the project is there: whatever happens, it is found again.
    record.write(workdir, kept)
  _check_same_server(server, kept, workdir)
  if kept.project is not None:
    return _find_known(server, kept.project, workdir)
  return _create(server, kept, workdir, query)


def add_classes(server: Server, found: Project, query: Query) -> None:
  """Lets people choose the classes of a query that a project does not have.

  Classes that the project has and the query does not are left: people may have
  added them, and their annotations name them.

  Args:
    server: The server.
    found: The project.
    query: What is asked next.

  Raises:
    ValueError: As in `with_classes`.
  """
  config = with_classes(found.config, query)
  if config != found.config:
    patience.insist(lambda: server.configure(found.number, config))


def show_predictions(server: Server, found: Project, query: Query) -> None:
  """Has the pages show the predictions of a query, whose tasks are there.

  They show those of one model alone: without this, those of the first round.

  Args:
    server: The server.
    found: The project.
    query: What was pushed last.
  """
  named = {
    prediction["model_version"]
    for task in label_studio.tasks(query)
    for prediction in task.get("predictions", ())
  }
  for version in named - {found.model_version}:
    patience.insist(lambda v=version: server.show_model(found.number, v))


def with_classes(config: str, query: Query) -> str:
  """Returns a labeling configuration with choices for all classes of a query.

  Args:
    config: XML; all that it has stays.
    query: The query.

  Raises:
    ValueError: If it has no choices of the name that answers are read by, or as
      in `label_studio.labeling_config`.
  """
  wanted = ElementTree.fromstring(label_studio.labeling_config(query))
  name = wanted.find(_CHOICES).get("name")
  builder = ElementTree.TreeBuilder(insert_comments=True)
  try:
    root = ElementTree.fromstring(config, ElementTree.XMLParser(target=builder))
  except ElementTree.ParseError:
    root = ElementTree.Element("View")
  choices = root.find(f"{_CHOICES}[@name='{name}']")
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
  server: Server, found: Project, items: tuple[Item, ...]
) -> None:
  """Lets a project show the images of a query that are files.

  Args:
    server: The server.
    found: The project.
    items: The images; those in a store need a storage that people connect.

  Raises:
    ValueError: If the server cannot show them; shows why.
  """
  paths = [item for item in items if not storage.is_remote(item.path)]
  for folder in dict.fromkeys(map(_folder, paths)):

    def is_shown(folder: str = folder) -> bool | None:
      return folder in server.folders(found.number) or None

    def add(folder: str = folder) -> None:
      server.add_folder(found.number, folder)

    patience.once(is_shown, add)


def _folder(item: Item) -> str:
  """Returns the folder that an image, and those beside it, lie in."""
  root = item.path.removesuffix(f"/{item.id}")
  return posixpath.dirname(item.path) if root == item.path else root


def _create(
  server: Server, kept: Record, workdir: epath.PathLike, query: Query
) -> Project:
  """Makes the project unless it is there, and keeps its number."""
  config = label_studio.labeling_config(query)
  name = storage.as_path(workdir).name
  title = f"decern_jax {name}".encode(errors="replace").decode()[:_MAX_TITLE]
  description = f"Images that a run asks about ({kept.mark})."

  def find_marked() -> Project | None:
    found = [p for p in server.projects() if kept.mark in p.description]
    return found[0] if found else None

  made = patience.once(
    find_marked, lambda: server.create_project(title, description, config)
  )
  record.write(workdir, kept._replace(project=made.number))
  return _find_known(server, made.number, workdir)


def _find_known(
  server: Server, number: int, workdir: epath.PathLike
) -> Project:
  found = patience.insist(lambda: server.project(number))
  if found is None:
    raise ValueError(
      f"Expected project {number} of {server.url}, which"
      f" {storage.as_path(workdir) / record.FILE_NAME} names, got none."
      " Without that file, a new project is made."
    )
  return found


def _check_same_server(
  server: Server, kept: Record, workdir: epath.PathLike
) -> None:
  if kept.url != server.url:
    raise ValueError(
      f"Expected `url` {kept.url}, where the project of the run is, got"
      f" {server.url}. If the server has moved, tell so in"
      f" {storage.as_path(workdir) / record.FILE_NAME}."
    )
