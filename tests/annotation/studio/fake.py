"""A Label Studio in memory, whose connection fails where a test asks for it."""

from collections.abc import Callable
import dataclasses
import json

from decern_jax.annotation.query import Item, Query
from decern_jax.annotation.studio.client import Client, Project, TransientError

URL = "http://localhost:8080"
CLASSES = ("cat", 'dog & "wolf"', "zebra")


def make_query(num_items: int = 3, *, round_num: int = 3, **changes) -> Query:
  """A query whose model likes the last class best."""
  items = tuple(
    Item(f"a b/{i}.jpg", f"/images/a b/{i}.jpg", 0.5, (("zebra", 0.75),))
    for i in range(num_items)
  )
  return Query(round_num, CLASSES, False, items)._replace(**changes)


def lost(*, may_be_done: bool = True) -> TransientError:
  return TransientError(
    "Expected an answer, got none.", may_be_done=may_be_done
  )


class FakeClient(Client):
  """A client of a server in memory.

  Attributes:
    url: Its address.
    keys: The keys that a test has noted.
    all: Its projects.
    data: The data of the tasks of each project, as lists by its number.
    shown: The folders of each project.
    annotated: What an export gives, by number of the project.
    calls: Names of the methods that were called.
    batches: How many tasks came with each call that the server took.
    is_serving: Whether it shows files.
    failures: For each method, what its next calls do in place of answering: a
      pair of an error, or None, and what is done before it is raised. "work":
      what the call asks for.
  """

  def __init__(self):
    self.url = URL
    self.keys: list[str] = []
    self.all: list[Project] = []
    self.data: dict[int, list[dict]] = {}
    self.shown: dict[int, list[str]] = {}
    self.annotated: dict[int, list[dict]] = {}
    self.calls: list[str] = []
    self.batches: list[int] = []
    self.is_serving = True
    self.failures: dict[str, list] = {}

  def check(self) -> str:
    return self._do("check", lambda: "1.23.2")

  def projects(self) -> list[Project]:
    return self._do("projects", lambda: [*self.all])

  def project(self, number: int) -> Project | None:
    found = {project.number: project for project in self.all}
    return self._do("project", lambda: found.get(number))

  def create_project(self, title: str, description: str, config: str) -> None:
    assert 3 <= len(title.encode().decode()) <= 50
    number = len(self.all) + 7
    made = Project(number, description, config)

    def work():
      self.all.append(made)
      self.data[number], self.shown[number] = [], []
      self.annotated[number] = []

    self._do("create_project", work)

  def set_config(self, number: int, config: str) -> None:
    self._do("set_config", lambda: self._change(number, config=config))

  def set_model_version(self, number: int, model_version: str) -> None:
    versions = {data["model_version"] for data in self.data[number]}
    # As the real one does.
    assert model_version in versions, "refused: no predictions of that name"
    self._do(
      "set_model_version",
      lambda: self._change(number, model_version=model_version),
    )

  def folders(self, number: int) -> list[str]:
    return self._do("folders", lambda: [*self.shown[number]])

  def add_folder(self, number: int, path: str) -> None:
    self._do("add_folder", lambda: self.shown[number].append(path))

  def can_show(self, address: str) -> bool:
    assert address.startswith("/data/local-files/?d=")
    return self._do("can_show", lambda: self.is_serving)

  def tasks(self, number: int) -> list[dict]:
    return self._do("tasks", lambda: [*self.data[number]])

  def add_tasks(self, number: int, tasks: list[dict]) -> None:
    json.dumps(tasks, ensure_ascii=False).encode()  # as it is sent
    came = [
      {
        **task["data"],
        "model_version": task["predictions"][0]["model_version"]
        if task.get("predictions")
        else "",
      }
      for task in tasks
    ]

    def work():
      self.batches.append(len(tasks))
      self.data[number] += came

    self._do("add_tasks", work)

  def export(self, number: int) -> bytes:
    return self._do(
      "export", lambda: json.dumps(self.annotated[number]).encode()
    )

  def ids(self, number: int, round_num: int) -> list[str]:
    """Ids of the tasks of a round, in their order."""
    return [
      task["decern_id"]
      for task in self.data[number]
      if task["round"] == round_num
    ]

  def annotate(self, number: int, id_: str, labels: list[str] | None) -> None:
    """Says what a person submits; None: the image was skipped."""
    result = {
      "from_name": "label",
      "to_name": "image",
      "type": "choices",
      "value": {"choices": labels},
    }
    annotation = {
      "id": len(self.annotated[number]) + 1,
      "completed_by": 1,
      "result": [result] if labels else [],
      "was_cancelled": labels is None,
      "created_at": "2026-11-21T15:19:14.256594Z",
    }
    data = next(d for d in self.data[number] if d["decern_id"] == id_)
    self.annotated[number].append({"data": data, "annotations": [annotation]})

  def _change(self, number: int, **changes: str) -> None:
    self.all = [
      dataclasses.replace(project, **changes)
      if project.number == number
      else project
      for project in self.all
    ]

  def _do(self, name: str, work: Callable):
    self.calls.append(name)
    script = self.failures.get(name)
    if not script:
      return work()
    error, before = script.pop(0)
    if before == "work":
      work()
    elif before is not None:
      before(work)
    if error is None:
      return work()
    raise error
