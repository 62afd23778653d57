"""Tests of decern_jax/cli/label.py."""

import functools
import getpass
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import webbrowser

import pytest

from decern_jax.annotation import query
from decern_jax.annotation.page.server import Server
from decern_jax.cli import label
from decern_jax.io import storage
from tests.annotation.page import asked
from tests.table import each


@pytest.fixture
def workdir(tmp_path):
  return asked.write_run(tmp_path)


@pytest.fixture
def serve_nothing(monkeypatch):
  """Ends `label` as soon as it serves; returns the servers and addresses."""
  seen = []
  monkeypatch.setattr(Server, "serve_forever", lambda self: seen.append(self))
  monkeypatch.setattr(webbrowser, "open", seen.append)
  return seen


def call(
  workdir,
  *,
  port: int = 0,
  annotator: str | None = "Ada",
  open_browser: bool = False,
):
  label.label(
    workdir, port=port, annotator=annotator, open_browser=open_browser
  )


class TestLabel:
  def test_says_where_and_how_far(self, workdir, serve_nothing, capsys):
    call(workdir)
    (server,) = serve_nothing
    output = capsys.readouterr().out
    assert "6 images, of which 0 have an answer by Ada." in output
    assert f"  {server.address.url}\n" in output
    assert "Ended: 0 of 6 images have an answer" in output

  def test_keeps_its_address(self, workdir, serve_nothing):
    for _ in range(2):
      call(workdir)
    first, second = serve_nothing
    assert first.address == second.address

  def test_takes_another_port_where_the_last_is_taken(
    self, workdir, serve_nothing
  ):
    call(workdir)
    with socket.create_server(("127.0.0.1", serve_nothing[0].address.port)):
      call(workdir)
    first, second = serve_nothing
    assert first.address.port != second.address.port
    assert first.address.token == second.address.token

  def test_opens_the_browser(self, workdir, serve_nothing):
    call(workdir, open_browser=True)
    url, server = serve_nothing
    assert url == server.address.url

  def test_user_labels_by_default(self, workdir, serve_nothing, monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "grace")
    call(workdir, annotator=None)
    (server,) = serve_nothing
    assert server.current_query.view()["annotator"] == "grace"

  def test_user_without_a_name_is_nobody(
    self, workdir, serve_nothing, monkeypatch
  ):
    def fail():
      raise KeyError("getpwuid(): uid not found: 1000")

    monkeypatch.setattr(getpass, "getuser", fail)
    call(workdir, annotator=None)
    (server,) = serve_nothing
    assert server.current_query.view()["annotator"] == ""

  def test_folder_may_be_that_of_the_user(
    self, workdir, serve_nothing, monkeypatch
  ):
    monkeypatch.setenv("HOME", os.fspath(workdir.parent))
    call("~/run")
    (server,) = serve_nothing
    assert server.current_query.log == workdir / "answers" / "page.jsonl"

  def test_lock_is_free_afterwards(self, workdir, serve_nothing):
    call(workdir)
    with storage.hold_lock(workdir / "answers" / label.LOCK_FILE, refusal="No"):
      pass

  @each("number", [signal.SIGINT, signal.SIGTERM])
  def test_a_signal_ends_it_cleanly(self, workdir, monkeypatch, capsys, number):
    monkeypatch.setattr(
      Server, "serve_forever", lambda self: signal.raise_signal(number)
    )
    before = signal.getsignal(signal.SIGTERM)
    call(workdir)
    assert signal.getsignal(signal.SIGTERM) == before
    assert "Ended: 0 of 6 images" in capsys.readouterr().out
    assert os.listdir(workdir / "answers") == [label.LOCK_FILE]


class TestRefusals:
  def check(self, message, *arguments, **options):
    with pytest.raises((ValueError, OSError), match=message):
      call(*arguments, **options)

  def test_folder_that_asks_nothing(self, tmp_path):
    self.check(r"got no query in .*queries", tmp_path)
    assert not [*tmp_path.iterdir()]

  def test_folder_that_is_not_there(self, tmp_path):
    self.check("got no query in", tmp_path / "no")
    assert not [*tmp_path.iterdir()]

  def test_query_that_is_none(self, workdir):
    (query.folder_of(workdir, 3) / query.FILE_NAME).write_text("{}")
    self.check("Expected a query in", workdir)
    assert not (workdir / "answers").exists()

  def test_second_page_of_a_run(self, workdir, serve_nothing):
    message = rf"one labeling page at a time.* process {os.getpid()} on"
    lock = workdir / "answers" / label.LOCK_FILE
    lock.parent.mkdir()
    with storage.hold_lock(lock, refusal="No"):
      self.check(message, workdir)
    assert serve_nothing == []

  def test_folder_in_a_store(self):
    self.check("on a disk of this machine, .*got gs://a/b", "gs://a/b")

  @each("port", [-1, 65536])
  def test_port_that_is_none(self, workdir, port):
    self.check(f"`port` <= 65535, got {port}", workdir, port=port)

  def test_port_that_is_taken(self, workdir):
    with socket.create_server(("127.0.0.1", 0)) as other:
      port = other.getsockname()[1]
      self.check(f"a free `port`, got {port}: .*in use", workdir, port=port)

  @each("name", ["", " ", "a\nb", "x" * 201])
  def test_annotator_that_is_none(self, workdir, name):
    self.check("Expected `annotator` of 1 to 200", workdir, annotator=name)

  def test_disk_that_cannot_be_written(
    self, workdir, serve_nothing, monkeypatch
  ):
    def fail(folder):
      raise OSError(f"Read-only file system: {folder}")

    monkeypatch.setattr(storage, "check_writable", fail)
    self.check(f"Read-only file system: {workdir}", workdir)
    assert not (workdir / "answers").exists()

  def test_answers_that_cannot_be_written(self, workdir):
    (workdir / "answers").write_text("a file")
    self.check("answers", workdir)


class TestMain:
  @pytest.fixture
  def call(self, call_command):
    return functools.partial(call_command, label)

  def test_flags_have_defaults(self, call):
    assert call("--workdir=run") == (
      ("run",),
      {"port": 0, "annotator": None, "open_browser": False},
    )

  def test_passes_options(self, call):
    _, options = call("--workdir=a", "--port=5", "--annotator=Bo", "--open")
    assert options == {"port": 5, "annotator": "Bo", "open_browser": True}


@pytest.mark.slow
class TestProcess:
  @pytest.fixture
  def started(self, workdir):
    """The command as its own process, and its address."""
    process, url = asked.start_label(workdir)
    yield process, url
    process.kill()
    process.wait()
    assert process.stdout
    process.stdout.close()

  def test_serves_who_knows_the_address(self, started):
    _, url = started
    with urllib.request.urlopen(url, timeout=10) as reply:
      assert b"<title>Labels</title>" in reply.read()
    with pytest.raises(urllib.error.HTTPError, match="403") as refused:
      urllib.request.urlopen(url[:-10], timeout=10)
    refused.value.close()

  @each("number", [signal.SIGINT, signal.SIGTERM])
  def test_ends_cleanly(self, started, workdir, number):
    process, _ = started
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Ended: 0 of 6 images" in output
    assert "Traceback" not in output
    assert os.listdir(workdir / "answers") == [label.LOCK_FILE]

  def test_second_is_refused_in_a_line(self, started, workdir):
    process, _ = started
    with pytest.raises(RuntimeError) as second:
      asked.start_label(workdir)
    (line,) = str(second.value).splitlines()
    assert line.startswith("error: Expected one labeling page at a time")
    assert f"held by process {process.pid} on" in line

  def test_needs_a_workdir(self):
    done = subprocess.run(
      [sys.executable, "-m", "decern_jax.label"],
      cwd=asked.ROOT,
      capture_output=True,
      text=True,
      timeout=60,
      check=False,
    )
    assert done.returncode == 1
    assert "Expected --workdir, got none" in done.stderr
