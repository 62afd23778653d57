"""Tests with a running Label Studio, where it is installed.

  python -m venv LS && LS/bin/pip install label-studio
  DECERN_LABEL_STUDIO=LS/bin/label-studio python -m pytest -n 0 -m slow \
    tests/annotation/studio/real_server_test.py

The server is started on loopback, with its data in a temporary folder (see
`tests/annotation/studio/real_server.py`), and is killed at the end.
"""

import collections
import threading
import time

import numpy as np
from PIL import Image
import pytest

from decern_jax.annotation import inbox, query, state
from decern_jax.annotation.query import Item
from decern_jax.annotation.studio import client, project, transfer
from decern_jax.annotation.studio.client import KEY_VARIABLE
from decern_jax.cli import annotate
from tests.annotation.studio import real_server
from tests.annotation.studio.fake import make_query

pytestmark = [
  pytest.mark.slow,
  # Of packages that are not this project's.
  pytest.mark.filterwarnings("ignore"),
]

NAMES = (
  "plain.png",
  "a folder/with spaces.png",
  "quo'te\"s.png",
  "line\nbreak.png",
  "grün \N{CAT FACE}.png",
  "q?&#%25+.png",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
  server = real_server.RealServer(tmp_path_factory.mktemp("label_studio"))
  server.start()
  yield server
  server.kill()


@pytest.fixture(scope="module")
def session_and_key(server):
  return real_server.log_in(server.url)


@pytest.fixture
def session(session_and_key):
  return session_and_key[0]


@pytest.fixture(autouse=True)
def key(session_and_key, monkeypatch):
  monkeypatch.setenv(KEY_VARIABLE, session_and_key[1])
  monkeypatch.setattr(client, "RETRY_DELAYS", (0.5, 1.0, 1.0, 1.0))
  return session_and_key[1]


@pytest.fixture
def wire(server):
  with real_server.Wire(server.port) as wire:
    yield wire


@pytest.fixture
def asked(tmp_path):
  """A query over images with hard names."""
  items = []
  for n, name in enumerate(NAMES):
    path = tmp_path / "my images" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((24, 32, 3), 40 * n, np.uint8)).save(path)
    items.append(Item(name, str(path), None, (("zebra", 0.75),)))
  return make_query(items=tuple(items))


@pytest.fixture
def workdir(tmp_path, asked):
  query.write(tmp_path / "run", asked)
  return tmp_path / "run"


def call(workdir, url, action="both"):
  annotate.annotate(workdir, url=url, action=action, document_root="/")


def number_of(workdir) -> int | None:
  link = project.read_link(workdir)
  assert link
  return link.project


def tasks_of(session, server, workdir) -> list[dict]:
  """All tasks of the project of a run, as the server has them."""
  number = number_of(workdir)
  answer = session.get(
    f"{server.url}/api/tasks?project={number}&page_size=10000&fields=all"
  )
  answer.raise_for_status()
  return answer.json()["tasks"]


def check_once(session, server, workdir, asked):
  """Checks that each image of a query is there, once and in order."""
  found = [t["data"]["decern_id"] for t in tasks_of(session, server, workdir)]
  twice = [k for k, n in collections.Counter(found).items() if n > 1]
  assert not twice
  assert sorted(found) == sorted(item.id for item in asked.items)


def annotate_task(session, server, task, labels):
  result = {
    "from_name": "label",
    "to_name": "image",
    "type": "choices",
    "value": {"choices": labels},
  }
  session.post(
    f"{server.url}/api/tasks/{task['id']}/annotations/",
    json={"result": [result] * bool(labels), "was_cancelled": labels is None},
  ).raise_for_status()


def test_images_of_all_names_are_shown(server, session, workdir, asked):
  call(workdir, server.url)
  check_once(session, server, workdir, asked)
  for task in tasks_of(session, server, workdir):
    answer = session.get(server.url + task["data"]["image"])
    assert answer.headers["Content-Type"] == "image/png"
    name = task["data"]["decern_id"]
    path = next(i.path for i in asked.items if i.id == name)
    with open(path, "rb") as file:
      assert answer.content == file.read()


def test_answers_come_back(server, session, workdir, asked):
  call(workdir, server.url)
  tasks = tasks_of(session, server, workdir)
  annotate_task(session, server, tasks[0], ["cat"])
  annotate_task(session, server, tasks[3], ['dog & "wolf"'])
  annotate_task(session, server, tasks[4], None)
  call(workdir, server.url)
  intake = inbox.ingest(
    workdir, asked.items, pool=[*NAMES], is_multi_label=False
  )
  assert intake.problems == ()
  told = state.resolve(intake.answers)
  assert told.labels == {NAMES[0]: ("cat",), NAMES[3]: ('dog & "wolf"',)}
  assert told.skipped == {NAMES[4]}
  check_once(session, server, workdir, asked)


def test_answers_of_several_labels_come_back(server, session, workdir, asked):
  query.write(workdir, asked._replace(is_multi_label=True))
  call(workdir, server.url)
  tasks = tasks_of(session, server, workdir)
  annotate_task(session, server, tasks[0], ["cat", "zebra"])
  annotate_task(session, server, tasks[1], [])
  call(workdir, server.url)
  intake = inbox.ingest(
    workdir, asked.items, pool=[*NAMES], is_multi_label=True
  )
  assert intake.problems == ()
  told = state.resolve(intake.answers)
  assert told.labels == {NAMES[0]: ("cat", "zebra"), NAMES[1]: ()}


def test_next_round_has_its_classes_and_predictions(
  server, session, workdir, asked
):
  call(workdir, server.url)
  predictions = (("okapi", 0.5),)
  items = tuple(i._replace(predictions=predictions) for i in asked.items)
  names = (*asked.class_names, "okapi")
  query.write(workdir, asked._replace(round=4, class_names=names, items=items))
  call(workdir, server.url)
  number = number_of(workdir)
  found = session.get(f"{server.url}/api/projects/{number}").json()
  assert found["model_version"] == "decern_jax, round 4"
  assert found["parsed_label_config"]["label"]["labels"] == [*names]
  tasks = tasks_of(session, server, workdir)
  assert [t["data"]["round"] for t in tasks] == [3] * 6 + [4] * 6
  shown = tasks[-1]["predictions"][0]
  assert shown["result"][0]["value"]["choices"] == ["okapi"]


# Each needs a project of its own.
@pytest.mark.parametrize(
  ("script", "num_imports"),
  [
    (["cut after"], 1),
    (["late"], 1),
    (["cut before"], 2),
    (["503", "503"], 3),
    (["503", "cut before", "cut after"], 3),
  ],
)
def test_nothing_is_pushed_twice(
  server, session, wire, workdir, asked, script, num_imports
):
  wire.script = script
  call(workdir, wire.url)
  assert wire.num_imports == num_imports
  check_once(session, server, workdir, asked)


def test_gives_up_and_goes_on_later(server, session, wire, workdir, asked):
  wire.script = ["503"] * client.MAX_REQUESTS
  with pytest.raises(RuntimeError, match="got status 503"):
    call(workdir, wire.url)
  call(workdir, wire.url)
  check_once(session, server, workdir, asked)


def test_goes_on_after_a_kill_of_the_server(
  server, session, wire, workdir, tmp_path
):
  image = tmp_path / "my images" / NAMES[0]
  paths = [image.with_name(f"{n}.png") for n in range(6 * transfer.BATCH_SIZE)]
  for path in paths:
    path.hardlink_to(image)
  items = tuple(Item(path.name, str(path)) for path in paths)
  asked = make_query(items=items)
  query.write(workdir, asked)
  told = []

  def push():
    try:
      call(workdir, wire.url, action="push")
    except RuntimeError as error:
      told.append(error)

  thread = threading.Thread(target=push)
  thread.start()
  while wire.num_imports < 3 and thread.is_alive():
    time.sleep(0.01)
  server.kill()
  thread.join()
  server.start()
  assert len(told) == 1
  there = len(tasks_of(session, server, workdir))
  assert 0 < there < len(items)
  call(workdir, wire.url, action="push")
  check_once(session, server, workdir, asked)


def test_images_that_are_not_shown_are_not_pushed(
  server, session, workdir, tmp_path
):
  with pytest.raises(ValueError, match="to show /data/local-files/.d=my%20im"):
    annotate.annotate(
      workdir, url=server.url, action="push", document_root=str(tmp_path)
    )
  assert tasks_of(session, server, workdir) == []


def test_tells_what_is_wrong(server, workdir, monkeypatch):
  with pytest.raises(ValueError, match="status 404: a page that begins"):
    call(workdir, f"{server.url}/elsewhere")
  with pytest.raises(RuntimeError, match="Connection refused"):
    call(workdir, f"http://127.0.0.1:{real_server.free_port()}")
  monkeypatch.setenv(KEY_VARIABLE, "wrong")
  with pytest.raises(ValueError, match="status 401: Invalid token"):
    call(workdir, server.url)
  assert not (workdir / project.LINK_FILE).exists()
