"""Tests of decern_jax/annotation/page/server.py."""

import contextlib
import errno
import http.client
import json
import os
import re
import socket

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from decern_jax.annotation import answers, query
from decern_jax.annotation.page.current_query import CurrentQuery
from decern_jax.annotation.page.server import (
  PageAddress,
  Server,
  _parse_answer,
  load_address,
  save_address,
)
from decern_jax.io import storage
from tests.annotation.page import asked
from tests.table import each

BASE = f"/{asked.TOKEN}/"
KEPT = PageAddress(1234, "x" * 32)
JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab"),
  lambda values: st.lists(values, max_size=2),
)


@pytest.fixture
def path(tmp_path):
  return tmp_path / "address.json"


def image_url(server, index):
  return f"{BASE}image/{server.current_query.view()['version']}/{index}"


class TestPageAddress:
  def test_url_is_of_this_machine_alone(self):
    assert KEPT.url == f"http://127.0.0.1:1234/{'x' * 32}/"


class TestLoadAddress:
  def test_returns_what_was_kept(self, path):
    save_address(path, KEPT)
    assert load_address(path) == KEPT

  def test_secrets_are_long_and_differ(self, path):
    first, second = load_address(path), load_address(path)
    assert first.port == second.port == 0
    assert first.token != second.token
    assert len(first.token) == 32  # 192 bits

  @each("mode", [0o640, 0o604, 0o620])
  def test_trusts_no_file_that_is_open_to_others(self, path, mode):
    save_address(path, KEPT)
    path.chmod(mode)
    assert load_address(path).token != KEPT.token

  def test_trusts_all_files_where_users_have_no_numbers(
    self, path, monkeypatch
  ):
    """As on Windows."""
    save_address(path, KEPT)
    path.chmod(0o644)
    monkeypatch.delattr(os, "getuid")
    assert load_address(path) == KEPT

  @each(
    "content",
    [
      "",
      "[]",
      "{}",
      '{"port": 1234, "token": ""}',
      '{"port": 1234, "token": 5}',
      '{"port": 0, "token": "' + "x" * 32 + '"}',
      '{"port": "a", "token": "' + "x" * 32 + '"}',
      '{"port": Infinity, "token": "' + "x" * 32 + '"}',
      '{"port": 65536, "token": "' + "x" * 32 + '"}',
      '{"port": 1234, "token": "' + "/" * 32 + '"}',
      "[" * 100_000,
    ],
  )
  def test_a_broken_file_is_as_none(self, path, content):
    path.write_text(content)
    path.chmod(0o600)
    found = load_address(path)
    assert found.port == 0
    assert len(found.token) == 32


class TestSaveAddress:
  def test_nobody_else_can_read_it(self, path):
    path.write_text("older")
    path.chmod(0o666)
    before = os.umask(0)
    try:
      save_address(path, KEPT)
    finally:
      os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600

  def test_follows_no_link(self, path, tmp_path):
    target = tmp_path / "target"
    target.write_text("mine")
    path.symlink_to(target)
    save_address(path, KEPT)
    assert target.read_text() == "mine"
    assert load_address(path) == KEPT

  def test_goes_on_where_nothing_can_be_written(self, tmp_path):
    save_address(tmp_path / "no folder" / "file", KEPT)
    assert not (tmp_path / "no folder").exists()


class TestServer:
  def test_listens_on_loopback_alone(self, server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.address == PageAddress(server.server_address[1], asked.TOKEN)

  def test_taken_port_is_an_error(self, server, workdir):
    with pytest.raises(OSError, match="in use"):
      Server(server.address, CurrentQuery(workdir, ""))

  def test_goes_on_beside_connections_that_say_nothing(self, server, ask):
    place = ("127.0.0.1", server.address.port)
    with socket.create_connection(place), socket.create_connection(place):
      assert ask(BASE)[0] == 200

  def test_error_of_the_program_is_logged(
    self, server, ask, caplog, monkeypatch
  ):
    def fail():
      raise KeyError("a defect")

    monkeypatch.setattr(server.current_query, "view", fail)
    with pytest.raises(http.client.RemoteDisconnected):
      ask(f"{BASE}query")
    assert "A request of the labeling page failed" in caplog.text
    assert "a defect" in caplog.text

  def test_browser_that_leaves_is_no_error(self, server, caplog):
    try:
      raise ConnectionResetError
    except ConnectionError:
      server.handle_error(None, None)
    assert not caplog.records


class TestGet:
  def test_serves_every_file_that_the_page_names(self, ask):
    status, page, headers = ask(BASE)
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    names = re.findall(r'(?:src|href)="([^":,]+)"', page.decode())
    assert set(names) == {"page.js", "page.css", "theme.css"}
    todo, seen = [*names], set()
    while todo:
      name = todo.pop()
      seen.add(name)
      status, content, _ = ask(BASE + name)
      assert (status, content[:1] != b"") == (200, True), name
      found = re.findall(r'from "\./([a-z]+\.js)"', content.decode())
      todo += [other for other in found if other not in seen]
    assert {"flow.js", "names.js", "pictures.js"} <= seen

  def test_page_names_no_other_host(self, ask, server):
    for name in server.files:
      assert not re.search(rb"https?://|@import|url\(", ask(BASE + name)[1])

  def test_nothing_may_be_loaded_from_or_by_others(self, ask):
    _, _, headers = ask(BASE)
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"

  def test_serves_the_query(self, ask):
    status, content, _ = ask(f"{BASE}query")
    assert status == 200
    assert [i["id"] for i in json.loads(content)["items"]] == [*asked.IDS]

  @each("index", range(asked.NUM_IMAGES))
  def test_serves_the_images(self, ask, server, index):
    status, content, headers = ask(image_url(server, index))
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert content.startswith(b"\x89PNG")

  def test_says_why_an_image_is_not_there(self, ask, server, workdir):
    os.unlink(query.read(workdir, 3).items[2].path)
    status, content, _ = ask(image_url(server, 2))
    assert status == 422
    assert b"2.png' cannot be read: No such file" in content

  def test_image_of_an_older_query_is_refused(self, ask, server, workdir):
    url = image_url(server, 0)
    query.write(workdir, query.read(workdir, 3)._replace(round=4))
    assert ask(f"{BASE}query")[0] == 200
    assert ask(url)[0] == 409

  def test_tells_whether_a_query_is_the_latest(self, ask, server, workdir):
    url = f"{BASE}latest/{server.current_query.view()['version']}"
    assert ask(url)[1] == b"true"
    query.write(workdir, query.read(workdir, 3)._replace(round=4))
    assert ask(url)[1] == b"false"

  @each("index", ["6", "999999999"])
  def test_position_that_is_none_is_refused(self, ask, server, index):
    assert ask(image_url(server, index))[0] == 422


class TestPost:
  def test_answer_is_saved(self, post, server):
    assert post(1, ["Zebra"])[:2] == (200, b"true")
    (line,) = answers.read_log(server.current_query.log).answers
    assert line[:3] == (asked.IDS[1], ("Zebra",), "Ada")

  def test_image_is_skipped(self, post, server):
    assert post(1, None)[0] == 200
    (line,) = answers.read_log(server.current_query.log).answers
    assert line.labels is None

  def test_late_answer_is_refused(self, post, server):
    assert post(0, ["Zebra"], serial=2)[0] == 200
    assert post(0, ["Pear"], serial=1)[0] == 409
    assert len(answers.read_log(server.current_query.log).answers) == 1

  def test_answer_to_an_older_query_is_refused(self, post, server):
    assert post(version="0" * 16)[0] == 409
    assert not server.current_query.log.exists()

  def test_says_that_the_disk_is_full(self, post, server, monkeypatch):
    def fail(path, content):
      raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "append", fail)
    status, content, _ = post()
    assert status == 500
    assert b"No space left on device" in content

  @each(
    "body",
    [
      b"",
      b"{",
      b"[]",
      b"3",
      b"{}",
      b"\xff",
      b"[" * 100_000,
      b'{"version": "", "page_id": "", "labels": 1, "index": "0", "serial": 0}',
      b'{"version": "", "page_id": "", "labels": 1, "index": 0, "serial": 0.5}',
    ],
  )
  def test_what_is_no_answer_is_refused(self, post, server, body):
    assert post(body=body)[0] == 422
    assert not server.current_query.log.exists()

  @each("length", ["-1", "a", str(2**20 + 1), "", "9" * 5000])
  def test_length_is_checked_first(self, ask, length):
    path = f"{BASE}answer"
    assert ask(path, method="POST", Content_Length=length)[0] == 413

  def test_only_answers_are_taken(self, ask, server):
    origin = f"http://127.0.0.1:{server.address.port}"
    reply = ask(f"{BASE}query", method="POST", body=b"{}", Origin=origin)
    assert reply[0] == 404


class TestParseAnswer:
  @settings(max_examples=50, deadline=None, derandomize=True)
  @given(
    st.binary(max_size=20)
    | st.fixed_dictionaries(
      {"version": JSON, "index": JSON, "labels": JSON, "page_id": JSON},
      optional={"serial": JSON, "other": JSON},
    ).map(lambda value: json.dumps(value).encode())
  )
  def test_is_an_answer_or_refused(self, body):
    with contextlib.suppress(ValueError):
      parsed = _parse_answer(body)
      assert set(parsed) == {"version", "index", "labels", "page_id", "serial"}
      types = [type(parsed[k]) for k in ("version", "index", "page_id")]
      assert types == [str, int, str]
      assert type(parsed["serial"]) is int

  def test_keeps_what_the_page_sends(self):
    sent = {
      "version": "v",
      "index": 3,
      "labels": ["a"],
      "page_id": "p",
      "serial": 7,
    }
    assert _parse_answer(json.dumps(sent).encode()) == sent
