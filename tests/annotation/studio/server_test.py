"""Tests of decern_jax/annotation/studio/server.py, with a fake client."""

import types
from unittest import mock

import pytest

from decern_jax.annotation.studio import server as server_lib
from decern_jax.annotation.studio.connection import MissingError
from decern_jax.annotation.studio.server import Project, Server
from tests.table import each

URL = "http://localhost:8080"


@pytest.fixture
def client():
  """Stands for the client of label-studio-sdk."""
  return mock.Mock()


@pytest.fixture
def server(client, monkeypatch):
  connection = types.SimpleNamespace(
    url=URL,
    client=client,
    call=lambda ask: ask(),
    status=lambda path: {"/there": 200}.get(path, 404),
    close=client.close,
  )
  monkeypatch.setattr(
    server_lib, "Connection", lambda url, key, *, seconds: connection
  )
  return Server(URL, "key")


def version(release="1.23.2", edition="Community"):
  return types.SimpleNamespace(release=release, edition=edition)


def found(number=7, description="mine", config="<View/>", model_version="m"):
  return types.SimpleNamespace(
    id=number,
    description=description,
    label_config=config,
    model_version=model_version,
  )


class TestCheck:
  @each("release", ["1.20.0", "1.23.2.post1", "2.0"])
  def test_takes_releases_that_it_can_use(self, server, client, release):
    client.versions.get.return_value = version(release)
    assert server.check() == release
    client.users.whoami.assert_called_once_with()

  @each("release", ["1.19.0", "0.9", "1", "", "unknown"])
  def test_rejects_others(self, server, client, release):
    client.versions.get.return_value = version(release)
    with pytest.raises(ValueError, match=f"Studio >= 1.20 at {URL}, got '"):
      server.check()

  def test_rejects_another_program(self, server, client):
    client.versions.get.return_value = types.SimpleNamespace(status="ok")
    with pytest.raises(ValueError, match="got 'another program'"):
      server.check()

  def test_rejects_the_edition_that_takes_tasks_later(self, server, client):
    client.versions.get.return_value = version(edition="Enterprise")
    with pytest.raises(ValueError, match="Community .*got 'Enterprise'"):
      server.check()

  def test_rejects_a_key_that_is_refused(self, server, client):
    client.versions.get.return_value = version()
    client.users.whoami.side_effect = ValueError("Expected a key")
    with pytest.raises(ValueError, match="Expected a key"):
      server.check()


class TestProjects:
  def test_lists_them(self, server, client):
    client.projects.list.return_value = iter(
      [found(), found(8, None, None, None)]
    )
    assert server.projects() == [
      Project(7, "mine", "<View/>", "m"),
      Project(8, "", "", ""),
    ]

  def test_finds_one(self, server, client):
    client.projects.get.return_value = found()
    assert server.project(7) == Project(7, "mine", "<View/>", "m")

  def test_one_that_is_gone_is_none(self, server, client):
    client.projects.get.side_effect = MissingError
    assert server.project(7) is None

  def test_other_refusals_are_errors(self, server, client):
    client.projects.get.side_effect = ValueError("refused")
    with pytest.raises(ValueError, match="refused"):
      server.project(7)


class TestRequests:
  """What is sent, as label-studio-sdk 2.1.2 takes it."""

  def test_makes_a_project(self, server, client):
    server.create_project("name", "mine", "<View/>")
    client.projects.create.assert_called_once_with(
      title="name", description="mine", label_config="<View/>"
    )

  def test_changes_one_thing_at_a_time(self, server, client):
    server.configure(7, "<View/>")
    server.show_model(7, "m")
    assert client.projects.update.mock_calls == [
      mock.call(7, label_config="<View/>"),
      mock.call(7, model_version="m"),
    ]

  def test_folders_do_not_become_tasks(self, server, client):
    local = client.import_storage.local
    local.list.return_value = [types.SimpleNamespace(path="/a")]
    assert server.folders(7) == ["/a"]
    server.add_folder(7, "/b")
    local.create.assert_called_once_with(
      project=7, path="/b", title="decern_jax", use_blob_urls=True
    )
    local.sync.assert_not_called()

  def test_knows_what_it_shows(self, server):
    assert server.shows("/there")
    assert not server.shows("/elsewhere")

  def test_ends_the_connection(self, server, client):
    server.close()
    client.close.assert_called_once_with()

  def test_lists_the_data_of_tasks(self, server, client):
    client.tasks.list.return_value = iter(
      [
        types.SimpleNamespace(data={"id": "a"}),
        types.SimpleNamespace(data=None),
      ]
    )
    assert server.tasks(7) == [{"id": "a"}, {}]
    assert client.tasks.list.call_args.kwargs["project"] == 7

  def test_adds_tasks(self, server, client):
    server.add_tasks(7, [{"data": {}}])
    client.projects.import_tasks.assert_called_once_with(
      7, request=[{"data": {}}]
    )

  def test_exports_what_is_annotated(self, server, client):
    client.projects.exports.download_sync.return_value = iter([b"[", b"]"])
    assert server.export(7) == b"[]"
    client.projects.exports.download_sync.assert_called_once_with(
      7, export_type="JSON", download_all_tasks=False
    )
