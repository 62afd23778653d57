"""Tests of decern_jax/annotation/studio/client.py, with a fake package."""

import contextlib
import sys
import types
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from decern_jax.annotation.studio import client as client_lib
from decern_jax.annotation.studio.client import (
  MAX_REQUESTS,
  RETRY_DELAYS,
  Client,
  MissingError,
  Project,
  TransientError,
  ensure,
  retry,
)
from tests.annotation.studio.fake import lost
from tests.table import each

KEY = "secret-key-0123"
URL = "http://localhost:8080"


URLS = st.text("htps:/@?#[]a09.- \n", max_size=20)


class ApiError(Exception):
  def __init__(self, *, headers=None, status_code=None, body=None):
    super().__init__("not to be shown")
    self.headers, self.status_code, self.body = headers, status_code, body


class TransportError(Exception):
  pass


class ConnectError(TransportError):
  pass


class ConnectTimeout(TransportError):
  pass


class ReadTimeout(TransportError):
  pass


class HttpClient:
  def __init__(self, **options):
    self.options = options
    self.is_closed = False

  def close(self):
    self.is_closed = True

  def get(self, url, *, headers):
    assert headers == {"Authorization": f"Token {KEY}"}
    if url.endswith("/lost"):
      raise ReadTimeout
    return types.SimpleNamespace(status_code=200 if url == f"{URL}/a" else 404)


@pytest.fixture(autouse=True)
def options(monkeypatch):
  """The options that the client is made with; the packages are replaced."""
  options = {}

  class LabelStudio:
    def __init__(self, **given):
      options.update(given)
      key = {"Authorization": f"Token {given['api_key']}"}
      self._client_wrapper = types.SimpleNamespace(get_headers=lambda: key)

  sdk: Any = types.ModuleType("label_studio_sdk")
  core: Any = types.ModuleType("label_studio_sdk.core")
  sdk.core = core
  sdk.LabelStudio = LabelStudio
  core.ApiError = ApiError
  httpx: Any = types.ModuleType("httpx")
  httpx.Client = HttpClient
  for error in (TransportError, ConnectError, ConnectTimeout):
    setattr(httpx, error.__name__, error)
  monkeypatch.setitem(sys.modules, "httpx", httpx)
  monkeypatch.setitem(sys.modules, "label_studio_sdk", sdk)
  monkeypatch.setitem(sys.modules, "label_studio_sdk.core", sdk.core)
  return options


@pytest.fixture(autouse=True)
def waits(monkeypatch):
  """Seconds that were waited."""
  waits = []
  monkeypatch.setattr(client_lib.time, "sleep", waits.append)
  return waits


@pytest.fixture
def client():
  """A client whose package is a mock, `client._api`."""
  client = connect()
  client._api = mock.Mock()
  return client


def connect(url=URL, key=KEY):
  return Client(url, key, timeout=5.0)


def failing(error):
  """What a call comes to whose answer is an error."""

  def ask():
    raise error

  with pytest.raises((ValueError, RuntimeError)) as caught:
    connect()._call(ask)
  assert KEY not in str(caught.value)
  assert "not to be shown" not in str(caught.value)
  return caught.value


class TestInit:
  def test_requests_are_never_repeated_or_sent_elsewhere(self, options):
    connect()
    http = options.pop("httpx_client")
    assert options == {
      "base_url": URL,
      "api_key": KEY,
      "timeout": 5.0,
      "max_retries": 0,
    }
    assert http.options == {"timeout": 5.0, "follow_redirects": False}

  def test_closes_what_it_opened(self, options):
    connect().close()
    assert options["httpx_client"].is_closed

  def test_address_and_key_may_have_something_around_them(self, options):
    assert connect(f"{URL}/a//", f" {KEY}\n").url == f"{URL}/a"
    assert options["api_key"] == KEY

  @each(
    "url",
    [
      "",
      "localhost",
      "localhost:8080",
      "ftp://a",
      "http://",
      "http://a:b",
      "http://a:99999",
      "http://a:0",
      "http://[a",
      "http://a/?b",
      "http://a/#b",
      "http://a\n",
    ],
  )
  def test_rejects_what_is_no_address(self, url):
    with pytest.raises(ValueError, match="`url` such as http://localhost:8080"):
      connect(url)

  @settings(max_examples=50, deadline=None, derandomize=True)
  @given(URLS | URLS.map("http://".__add__))
  def test_every_address_that_is_taken_can_be_extended(self, url):
    with contextlib.suppress(ValueError):
      taken = client_lib._check_url(url)
      assert url.startswith(taken)
      assert taken[-1:] != "/"
      assert not set(taken) & set("@?#\n")

  def test_rejects_an_address_with_a_password_unseen(self):
    with pytest.raises(ValueError, match="without a user or a pass") as caught:
      connect("http://me:hidden@host")
    assert "hidden" not in str(caught.value)

  @each("key", ["", " \n"])
  def test_rejects_no_key(self, key):
    with pytest.raises(ValueError, match="in LABEL_STUDIO_API_KEY, got none"):
      connect(key=key)

  @each("key", ["hid\nden", "hidden\x00", "hidden\u2028ü"])
  def test_rejects_a_key_that_cannot_be_sent_unseen(self, key):
    with pytest.raises(ValueError, match="got other characters") as caught:
      connect(key=key)
    assert "hid" not in str(caught.value)

  @each("name", ["httpx", "label_studio_sdk"])
  def test_tells_what_to_install(self, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
      ValueError, match=r'install "decern_jax\[labelstudio\]"'
    ):
      connect()

  def test_rejects_an_old_package(self):
    delattr(sys.modules["label_studio_sdk"], "LabelStudio")
    with pytest.raises(ValueError, match="label-studio-sdk >= 2, got an older"):
      connect()


class TestErrors:
  def test_returns_the_answer(self):
    assert connect()._call(lambda: 5) == 5

  @each("kind", [ConnectError, ConnectTimeout])
  def test_what_was_not_sent_was_not_done(self, kind):
    error = failing(kind("Connection refused."))
    assert isinstance(error, TransientError)
    assert not error.may_be_done
    assert (
      f"an answer of Label Studio at {URL}, got Connection refused."
      in str(error)
    )
    assert not str(error).endswith("..")

  def test_what_was_sent_may_have_been_done(self):
    error = failing(ReadTimeout())
    assert isinstance(error, TransientError)
    assert error.may_be_done
    assert "got ReadTimeout." in str(error)

  @each(
    "status, may_be_done",
    [
      *[(408, True), (502, True), (504, True)],
      *[(425, False), (429, False), (500, False), (503, False)],
    ],
  )
  def test_troubles_of_the_server_may_pass(self, status, may_be_done):
    error = failing(ApiError(status_code=status, body="Bad day."))
    assert isinstance(error, TransientError)
    assert error.may_be_done == may_be_done
    assert f"got status {status}: Bad day." in str(error)

  @each("status", [401, 403])
  def test_tells_that_the_key_is_refused(self, status):
    error = failing(
      ApiError(status_code=status, body={"detail": "Invalid token."})
    )
    assert isinstance(error, ValueError)
    assert "Expected a key in LABEL_STUDIO_API_KEY" in str(error)
    assert f"status {status}: Invalid token. Its page" in str(error)

  def test_tells_what_is_missing(self):
    error = failing(ApiError(status_code=404, body={"detail": "No Project."}))
    assert isinstance(error, MissingError)

  def test_tells_what_the_server_found_wrong(self):
    errors = {"non_field_errors": ['"/x" does not exist']}
    body = {"detail": "Validation error", "validation_errors": errors}
    error = failing(ApiError(status_code=400, body=body))
    assert type(error) is ValueError
    assert 'got status 400: "/x" does not exist.' in str(error)

  def test_tells_of_a_page_that_is_not_the_interface(self):
    body = f"<!DOCTYPE html>\n<html>{'x' * 9999}"
    error = failing(ApiError(status_code=404, body=body))
    assert "a page that begins '<!DOCTYPE html> <html>" in str(error)
    assert len(str(error)) < 250

  def test_tells_where_a_redirect_leads(self):
    headers = {"location": "https://host/login"}
    error = failing(ApiError(headers=headers, status_code=302, body=""))
    assert "status 302: see https://host/login." in str(error)

  @each("kind", [ValueError, TypeError, AttributeError, UnicodeError])
  def test_tells_of_another_program(self, kind):
    error = failing(kind("not to be shown"))
    assert f"at {URL}, got an answer of another kind" in str(error)


def version(release="1.23.2", edition="Community"):
  return types.SimpleNamespace(release=release, edition=edition)


def found(
  number: int = 7,
  description: str | None = "mine",
  config: str | None = "<View/>",
  model_version: str | None = "m",
):
  return types.SimpleNamespace(
    id=number,
    description=description,
    label_config=config,
    model_version=model_version,
  )


class TestCheck:
  @each("release", ["1.20.0", "1.23.2.post1", "2.0"])
  def test_takes_releases_that_it_can_use(self, client, release):
    client._api.reset_mock()
    client._api.versions.get.return_value = version(release)
    assert client.check() == release
    client._api.users.whoami.assert_called_once_with()

  @each("release", ["1.19.0", "0.9", "1", "", "unknown"])
  def test_rejects_others(self, client, release):
    client._api.versions.get.return_value = version(release)
    with pytest.raises(ValueError, match=f"Studio >= 1.20 at {URL}, got '"):
      client.check()

  def test_rejects_another_program(self, client):
    client._api.versions.get.return_value = types.SimpleNamespace(status="ok")
    with pytest.raises(ValueError, match="got 'another program'"):
      client.check()

  def test_rejects_the_edition_that_takes_tasks_later(self, client):
    client._api.versions.get.return_value = version(edition="Enterprise")
    with pytest.raises(ValueError, match="Community .*got 'Enterprise'"):
      client.check()

  def test_rejects_a_key_that_is_refused(self, client):
    client._api.versions.get.return_value = version()
    client._api.users.whoami.side_effect = ApiError(status_code=401)
    with pytest.raises(ValueError, match="Expected a key"):
      client.check()


class TestProjects:
  def test_lists_them(self, client):
    client._api.projects.list.return_value = iter(
      [found(), found(8, None, None, None)]
    )
    assert client.projects() == [
      Project(7, "mine", "<View/>", "m"),
      Project(8, "", "", ""),
    ]

  def test_finds_one(self, client):
    client._api.projects.get.return_value = found()
    assert client.project(7) == Project(7, "mine", "<View/>", "m")

  def test_one_that_is_gone_is_none(self, client):
    client._api.projects.get.side_effect = ApiError(status_code=404)
    assert client.project(7) is None

  def test_other_refusals_are_errors(self, client):
    client._api.projects.get.side_effect = ApiError(
      status_code=400, body="refused"
    )
    with pytest.raises(ValueError, match="refused"):
      client.project(7)


class TestRequests:
  """What is sent, as label-studio-sdk 2.1.2 takes it."""

  def test_makes_a_project(self, client):
    client.create_project("name", "mine", "<View/>")
    client._api.projects.create.assert_called_once_with(
      title="name", description="mine", label_config="<View/>"
    )

  def test_changes_one_thing_at_a_time(self, client):
    client.set_config(7, "<View/>")
    client.set_model_version(7, "m")
    assert client._api.projects.update.mock_calls == [
      mock.call(7, label_config="<View/>"),
      mock.call(7, model_version="m"),
    ]

  def test_folders_do_not_become_tasks(self, client):
    local = client._api.import_storage.local
    local.list.return_value = [types.SimpleNamespace(path="/a")]
    assert client.folders(7) == ["/a"]
    client.add_folder(7, "/b")
    local.create.assert_called_once_with(
      project=7, path="/b", title="decern_jax", use_blob_urls=True
    )
    local.sync.assert_not_called()

  def test_knows_which_images_the_server_shows(self):
    client = connect()
    assert client.can_show("/a")
    assert not client.can_show("/b")
    with pytest.raises(TransientError, match="got ReadTimeout"):
      client.can_show("/lost")

  def test_lists_the_data_of_tasks(self, client):
    client._api.tasks.list.return_value = iter(
      [
        types.SimpleNamespace(data={"id": "a"}),
        types.SimpleNamespace(data=None),
      ]
    )
    assert client.tasks(7) == [{"id": "a"}, {}]
    assert client._api.tasks.list.call_args.kwargs["project"] == 7

  def test_adds_tasks(self, client):
    client.add_tasks(7, [{"data": {}}])
    client._api.projects.import_tasks.assert_called_once_with(
      7, request=[{"data": {}}]
    )

  def test_exports_what_is_annotated(self, client):
    client._api.projects.exports.download_sync.return_value = iter([b"[", b"]"])
    assert client.export(7) == b"[]"
    client._api.projects.exports.download_sync.assert_called_once_with(
      7, export_type="JSON", download_all_tasks=False
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
