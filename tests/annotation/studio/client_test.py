"""Tests of decern_jax/annotation/studio/client.py, with a local server."""

import pytest

from decern_jax.annotation.studio import client as client_lib
from decern_jax.annotation.studio.client import (
  MAX_REQUESTS,
  RETRY_DELAYS,
  Client,
  Project,
  TransientError,
  ensure,
  retry,
)
from tests.annotation.studio.fake import lost
from tests.table import each

VERSION = "GET /api/version/"
WHOAMI = "GET /api/current-user/whoami"
PROJECT = "/api/projects/7/"


@pytest.fixture(autouse=True)
def waits(monkeypatch):
  """Seconds that were waited."""
  waits = []
  monkeypatch.setattr(client_lib.time, "sleep", waits.append)
  return waits


@pytest.fixture
def client(server):
  return Client(server.url, "secret-key-0123", timeout=5.0)


def version(release="1.23.2", edition="Community"):
  return (200, {"release": release, "edition": edition})


FOUND = {
  "id": 7,
  "description": "mine",
  "label_config": "<View/>",
  "model_version": "m",
  "more": 1,
}
BARE = {
  "id": 8,
  "description": None,
  "label_config": None,
  "model_version": None,
}


class TestCheck:
  @each("release", ["1.20.0", "1.23.2.post1", "2.0"])
  def test_takes_releases_that_it_can_use(self, client, server, release):
    server.answers.update({VERSION: [version(release)], WHOAMI: [(200, {})]})
    assert client.check() == release
    assert server.requests[-1].path == "/api/current-user/whoami"

  @each("release", ["1.19.0", "0.9", "1", "", "unknown"])
  def test_rejects_others(self, client, server, release):
    server.answers[VERSION] = [version(release)]
    with pytest.raises(ValueError, match=f"Studio >= 1.20 at {client.url}, go"):
      client.check()

  @each("answer", [{"status": "ok"}, [], None, "text"])
  def test_rejects_another_program(self, client, server, answer):
    server.answers[VERSION] = [(200, answer)]
    with pytest.raises(ValueError, match="got 'another program'"):
      client.check()

  def test_rejects_the_edition_that_takes_tasks_later(self, client, server):
    server.answers[VERSION] = [version(edition="Enterprise")]
    with pytest.raises(ValueError, match="Community .*got 'Enterprise'"):
      client.check()

  def test_rejects_a_key_that_is_refused(self, client, server):
    server.answers.update({VERSION: [version()], WHOAMI: [(401, {})]})
    with pytest.raises(ValueError, match="Expected a key"):
      client.check()


class TestProjects:
  def test_lists_all_pages(self, client, server):
    server.answers["GET /api/projects/"] = [
      (200, {"results": [FOUND]}),
      (200, {"results": [BARE]}),
      (404, {"detail": "Invalid page."}),
    ]
    assert client.projects() == [
      Project(7, "mine", "<View/>", "m"),
      Project(8, "", "", ""),
    ]
    pages = [f"/api/projects/?page={n}&page_size=1000" for n in (1, 2, 3)]
    assert [request.path for request in server.requests] == pages

  def test_finds_one(self, client, server):
    server.answers[f"GET {PROJECT}"] = [(200, FOUND)]
    assert client.project(7) == Project(7, "mine", "<View/>", "m")

  def test_one_that_is_gone_is_none(self, client):
    assert client.project(7) is None

  def test_other_refusals_are_errors(self, client, server):
    server.answers[f"GET {PROJECT}"] = [(400, b"refused")]
    with pytest.raises(ValueError, match="refused"):
      client.project(7)

  @each("answer", [{}, [], None, {"id": "x"}, {"results": [{}]}])
  def test_answers_of_another_kind_are_errors(self, client, server, answer):
    server.answers[f"GET {PROJECT}"] = [(200, answer)]
    server.answers["GET /api/projects/"] = [(200, answer)]
    for call in (lambda: client.project(7), client.projects):
      with pytest.raises(ValueError, match="an answer of another kind"):
        call()


class TestRequests:
  """What is sent, as Label Studio 1.23.2 takes it."""

  @each(
    "call, route, body",
    [
      (
        lambda client: client.create_project("name", "mine", "<View/>"),
        "POST /api/projects/",
        {"title": "name", "description": "mine", "label_config": "<View/>"},
      ),
      (
        lambda client: client.set_config(7, "<View/>"),
        f"PATCH {PROJECT}",
        {"label_config": "<View/>"},
      ),
      (
        lambda client: client.set_model_version(7, "m"),
        f"PATCH {PROJECT}",
        {"model_version": "m"},
      ),
      (
        lambda client: client.add_folder(7, "/b"),
        "POST /api/storages/localfiles/",
        {"project": 7, "path": "/b", "title": "decern_jax"}
        | {"use_blob_urls": True},
      ),
      (
        lambda client: client.add_tasks(7, [{"data": {"id": "grün"}}]),
        "POST /api/projects/7/import",
        [{"data": {"id": "grün"}}],
      ),
    ],
  )
  def test_changes_one_thing_at_a_time(self, client, server, call, route, body):
    server.requests.clear()
    server.answers[route] = [(201, b"")]
    assert call(client) is None
    (request,) = server.requests
    assert f"{request.method} {request.path}" == route
    assert request.body == body

  def test_lists_folders(self, client, server):
    server.answers["GET /api/storages/localfiles/"] = [
      (200, [{"path": "/a"}, {"path": None}])
    ]
    assert client.folders(7) == ["/a", ""]
    assert server.requests[0].path == "/api/storages/localfiles/?project=7"

  def test_knows_which_images_the_server_shows(self, client, server):
    server.answers["GET /a"] = [(200, b"image")]
    server.answers["GET /moved"] = [(302, b"", {"Location": "/a"})]
    server.answers["GET /lost"] = [None]
    assert client.can_show("/a")
    assert not client.can_show("/b")
    assert not client.can_show("/moved")
    with pytest.raises(TransientError):
      client.can_show("/lost")

  def test_lists_the_data_of_tasks(self, client, server):
    server.answers["GET /api/tasks/"] = [
      (200, {"tasks": [{"data": {"id": "a"}}, {"data": None}]}),
      (200, {"tasks": []}),
    ]
    assert client.tasks(7) == [{"id": "a"}, {}]
    assert server.requests[0].path == (
      "/api/tasks/?project=7&fields=task_only&include=id%2Cdata"
      "&page=1&page_size=1000"
    )

  def test_tasks_of_no_project_are_an_error(self, client):
    with pytest.raises(ValueError, match="status 404"):
      client.tasks(7)

  def test_exports_what_is_annotated(self, client, server):
    server.answers["GET /api/projects/7/export"] = [(200, b"[ ]")]
    assert client.export(7) == b"[ ]"
    assert server.requests[0].path == (
      "/api/projects/7/export?export_type=JSON&download_all_tasks=false"
    )


def scripted(*answers):
  """A function that returns, or raises, one after the other."""
  left = list(answers)

  def ask():
    answer = left.pop(0)
    if isinstance(answer, Exception):
      raise answer
    return answer

  ask.left = left
  return ask


class TestRetry:
  def test_returns_what_comes_at_once(self, waits):
    assert retry(scripted(5)) == 5
    assert waits == []

  def test_asks_again_after_longer_and_longer_waits(self, waits):
    assert retry(scripted(lost(), lost(), lost(), 5)) == 5
    assert waits == [1.0, 2.0, 4.0]

  def test_gives_up_in_the_end(self, waits):
    ask = scripted(*[lost()] * (len(RETRY_DELAYS) + 1), 5)
    with pytest.raises(TransientError, match="Expected an answer, got none"):
      retry(ask)
    assert waits == [*RETRY_DELAYS]
    assert ask.left == [5]

  def test_other_errors_are_not_tried_again(self, waits):
    with pytest.raises(ValueError, match="refused"):
      retry(scripted(ValueError("refused"), 5))
    assert waits == []


class TestEnsure:
  def test_what_is_there_is_not_asked_for(self):
    assert ensure(scripted("there"), scripted()) == "there"

  def test_asks_once_and_finds_it(self, waits):
    ask = scripted(None)
    assert ensure(scripted(None, "made"), ask) == "made"
    assert ask.left == waits == []

  def test_finds_what_was_done_although_its_answer_was_lost(self):
    ask = scripted(lost())
    assert ensure(scripted(None, "made"), ask) == "made"

  def test_waits_for_what_is_done_late(self, waits):
    find = scripted(None, None, None, None, "made")
    assert ensure(find, scripted(lost())) == "made"
    assert waits == [1.0, 2.0, 4.0, 8.0]

  def test_asks_again_when_waiting_was_in_vain(self, waits):
    find = scripted(None, *[None] * len(RETRY_DELAYS), None, "made")
    ask = scripted(lost(), None)
    assert ensure(find, ask) == "made"
    assert waits == [*RETRY_DELAYS]
    assert ask.left == []

  def test_asks_again_soon_where_it_cannot_have_been_done(self, waits):
    find = scripted(None, None, None, "made")
    ask = scripted(lost(may_be_done=False), None)
    assert ensure(find, ask) == "made"
    assert waits == [RETRY_DELAYS[0]]

  def test_finding_may_be_lost_too(self, waits):
    find = scripted(lost(), None, lost(), "made")
    assert ensure(find, scripted(None)) == "made"
    assert waits == [1.0, 1.0]

  def test_last_attempt_may_have_been_obeyed_too(self):
    refused = [lost(may_be_done=False)] * (MAX_REQUESTS - 1)
    ask = scripted(*refused, lost())
    done = lambda: "made" if not ask.left else None  # noqa: E731
    assert ensure(done, ask) == "made"

  def test_gives_up_in_the_end(self):
    ask = scripted(*[lost(may_be_done=False)] * MAX_REQUESTS, None)
    with pytest.raises(TransientError):
      ensure(lambda: None, ask)
    assert ask.left == [None]

  def test_nothing_where_all_was_said_to_be_done_is_an_error(self):
    with pytest.raises(RuntimeError, match="as done, got nothing"):
      ensure(lambda: None, scripted(None))
