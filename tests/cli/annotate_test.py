"""Tests of decern_jax/cli/annotate.py."""

import functools
import os
import pathlib
import subprocess
import sys

import pytest

from decern_jax.annotation import formats, inbox, query
from decern_jax.annotation.query import Item
from decern_jax.annotation.studio import client as client_lib
from decern_jax.annotation.studio.client import KEY_VARIABLE
from decern_jax.cli import annotate
from decern_jax.runs import workdir as run_folder
from tests.annotation.studio.fake import URL, FakeClient, lost, make_query

ROOT = pathlib.Path(__file__).parents[2]
KEY = "secret-key-0123"


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
  monkeypatch.setattr(client_lib.time, "sleep", lambda seconds: None)


@pytest.fixture
def client(monkeypatch):
  """The server that the command reaches; `keys` has what it was given."""
  client = FakeClient()

  def connect(url, key, *, allow_http):
    assert (url, allow_http) == (URL, False)
    client.keys.append(key)
    return client

  monkeypatch.setattr(annotate, "Client", connect)
  monkeypatch.setenv(KEY_VARIABLE, KEY)
  return client


@pytest.fixture
def workdir(tmp_path):
  query.write(tmp_path / "run", make_query())
  return tmp_path / "run"


def call(workdir, *, action="both", document_root="/"):
  annotate.annotate(
    workdir, url=URL, action=action, document_root=document_root
  )


class TestAnnotate:
  def test_brings_the_query_and_says_where(self, workdir, client, capsys):
    call(workdir)
    assert len(client.ids(7, 3)) == 3
    assert client.shown[7] == ["/images"]
    assert client.all[0].model_version == "decern_jax, round 3"
    output = capsys.readouterr().out
    assert "asks about 3 images: 0 were in Label Studio, 3 came" in output
    assert f"{URL}/projects/7/data" in output
    assert "No annotation was submitted yet." in output

  def test_takes_answers_that_the_run_takes_in(self, workdir, client, capsys):
    call(workdir)
    client.annotate(7, "a b/1.jpg", ["zebra"])
    capsys.readouterr()
    call(workdir)
    output = capsys.readouterr().out
    assert "3 were in Label Studio, 0 came" in output
    assert "1 submitted annotations are in" in output
    items = make_query().items
    intake = inbox.ingest(
      workdir, items, pool=[i.id for i in items], is_multi_label=False
    )
    (answer,) = intake.answers
    assert (answer.id, answer.labels) == ("a b/1.jpg", ("zebra",))
    assert intake.problems == ()

  def test_pushes_alone(self, workdir, client):
    call(workdir, action="push")
    assert "export" not in client.calls

  def test_pulls_alone(self, workdir, client):
    call(workdir, action="push")
    client.annotate(7, "a b/1.jpg", ["zebra"])
    client.calls.clear()
    call(workdir, action="pull")
    assert client.calls == ["check", "project", "export"]
    path = workdir / "answers" / "label_studio.json"
    assert len(formats.read_file(path).answers) == 1

  def test_next_round_comes_to_the_same_project(self, workdir, client):
    call(workdir)
    names = (*make_query().class_names, "okapi")
    query.write(workdir, make_query(round_num=4, class_names=names))
    call(workdir)
    assert len(client.all) == 1
    assert client.ids(7, 4) == client.ids(7, 3)
    assert 'value="okapi"' in client.all[0].config
    assert client.all[0].model_version == "decern_jax, round 4"

  def test_goes_on_after_a_lost_connection(self, workdir, client):
    client.failures["add_tasks"] = [(lost(), "work")]
    client.failures["tasks"] = [(None, None)] + [(lost(), None)] * 99
    with pytest.raises(RuntimeError, match="Expected an answer"):
      call(workdir)
    client.failures.clear()
    call(workdir)
    assert len(client.ids(7, 3)) == 3

  def test_key_is_taken_from_the_environment_and_kept_nowhere(
    self, workdir, client, capsys
  ):
    call(workdir)
    assert client.keys == [KEY]
    files = [path for path in workdir.rglob("*") if path.is_file()]
    assert files
    assert not any(KEY.encode() in path.read_bytes() for path in files)
    assert KEY not in capsys.readouterr().out

  def test_tells_of_names_that_are_no_text(self, workdir, client, capsys):
    items = (Item("bad \udcff.jpg", "/images/bad \udcff.jpg"),)
    query.write(workdir, make_query(items=items + make_query().items))
    call(workdir)
    output = capsys.readouterr().out
    assert "1 were left out" in output
    assert "bad \\udcff.jpg" in output

  def test_tells_what_it_does_not_understand(self, workdir, client, capsys):
    call(workdir)
    client.annotated[7].append({"data": {}, "annotations": [{"id": 5}]})
    call(workdir, action="pull")
    assert "not taken: task 1, annotation 5" in capsys.readouterr().out

  def test_folder_may_be_that_of_the_user(self, workdir, client, monkeypatch):
    monkeypatch.setenv("HOME", os.fspath(workdir.parent))
    call("~/run")
    assert len(client.ids(7, 3)) == 3


class TestRefusals:
  def test_folder_that_asks_nothing(self, tmp_path, client):
    with pytest.raises(ValueError, match="asks for labels, got no query in"):
      call(tmp_path)
    assert client.calls == []
    assert not [*tmp_path.iterdir()]

  def test_unknown_action(self, workdir, client):
    with pytest.raises(ValueError, match="Unknown `action` 'delete'"):
      call(workdir, action="delete")

  def test_pull_before_any_push(self, workdir, client):
    with pytest.raises(ValueError, match="push its query first"):
      call(workdir, action="pull")

  def test_run_that_another_process_works_in(self, workdir, client):
    with (
      run_folder.lock(workdir),
      pytest.raises(ValueError, match="no other process works"),
    ):
      call(workdir)
    assert client.calls == ["check"]

  def test_server_that_is_away_at_the_start_is_told_at_once(
    self, workdir, client
  ):
    client.failures["check"] = [(lost(), None)]
    with pytest.raises(RuntimeError, match="Expected an answer"):
      call(workdir)
    assert client.calls == ["check"]
    assert not (workdir / "label_studio.json").exists()

  def test_key_in_the_clear(self, workdir, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with pytest.raises(ValueError, match="got 'http://host': the key would"):
      annotate.annotate(
        workdir, url="http://host", action="both", document_root="/"
      )

  def test_no_key(self, workdir, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(ValueError, match="LABEL_STUDIO_API_KEY, got none"):
      call(workdir)


class TestMain:
  @pytest.fixture
  def call(self, call_command):
    return functools.partial(call_command, annotate)

  def test_flags_have_defaults(self, call):
    assert call("--workdir=run") == (
      ("run",),
      {
        "url": "http://localhost:8080",
        "action": "both",
        "document_root": "/",
        "allow_http": False,
      },
    )

  def test_passes_options(self, call):
    _, options = call(
      *("--workdir=a", "--url=http://b", "--action=pull"),
      *("--document_root=/c", "--allow_http"),
    )
    assert options == {
      "url": "http://b",
      "action": "pull",
      "document_root": "/c",
      "allow_http": True,
    }


class TestProcess:
  def run(self, *arguments, **environment):
    return subprocess.run(
      [sys.executable, "-m", "decern_jax.annotate", *arguments],
      cwd=ROOT,
      capture_output=True,
      text=True,
      timeout=120,
      check=False,
      env={**os.environ, **environment},
    )

  @pytest.mark.slow
  def test_needs_a_workdir(self):
    done = self.run()
    assert done.returncode == 1
    assert "Expected --workdir, got none" in done.stderr

  def test_mistake_ends_in_a_line(self, workdir):
    done = self.run(f"--workdir={workdir}", **{KEY_VARIABLE: ""})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: Expected the key of a user of Label Studio")
