"""Tests of decern_jax/annotation/studio/connection.py, with a local server."""

import contextlib
import logging
import socket

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from decern_jax.annotation.studio.connection import (
  Connection,
  MissingError,
  TransientError,
)
from tests.table import each

KEY = "secret-key-0123"
PERSONAL = "secret.personal.0123"
URL = "http://localhost:8080"
URLS = st.text("htps:/@?#[]a09.- \n", max_size=20)


def connect(url=URL, key=KEY, *, allow_http=False):
  return Connection(url, key, allow_http=allow_http, timeout=5.0)


def failure(server, *answer):
  """The error of a request that is answered so; it never shows the key."""
  server.answers["GET /a"] = [answer]
  with pytest.raises((ValueError, RuntimeError)) as caught:
    connect(server.url).fetch("GET", "/a")
  assert KEY not in str(caught.value)
  return caught.value


class TestInit:
  def test_address_and_key_may_have_something_around_them(self, server):
    server.answers["GET /a/b"] = [(200, 5)]
    connection = connect(f"{server.url}/a//", f" {KEY}\n")
    assert connection.url == f"{server.url}/a"
    assert connection.ask("GET", "/b") == 5
    assert server.requests[0].authorization == f"Token {KEY}"

  @each(
    "url",
    [
      *("", "localhost", "localhost:8080", "ftp://a", "http://", "http://a:b"),
      *("http://a:99999", "http://a:0", "http://[a", "http://a/?b"),
      *("http://a/#b", "http://a\n"),
    ],
  )
  def test_rejects_what_is_no_address(self, url):
    with pytest.raises(ValueError, match="`url` such as http://localhost:8080"):
      connect(url)

  @settings(max_examples=50, deadline=None, derandomize=True)
  @given(URLS | URLS.map("http://".__add__))
  def test_every_address_that_is_taken_can_be_extended(self, url):
    with contextlib.suppress(ValueError):
      taken = connect(url, allow_http=True).url
      assert url.startswith(taken)
      assert taken[-1:] != "/"
      assert not set(taken) & set("@?#\n")

  def test_rejects_an_address_with_a_password_unseen(self):
    with pytest.raises(ValueError, match="without a user or a pass") as caught:
      connect("http://me:hidden@host")
    assert "hidden" not in str(caught.value)

  @each(
    "url",
    [
      "http://host",
      "HTTP://10.0.0.1:8080",
      "http://[::2]",
      "http://localhost.a",
    ],
  )
  def test_rejects_to_send_the_key_unencrypted_elsewhere(self, url):
    with pytest.raises(ValueError, match="https://, got '.*--allow_http"):
      connect(url)
    assert connect(url, allow_http=True).url == url

  @each(
    "url",
    [
      URL,
      "http://127.0.0.2",
      "http://[::1]:80",
      "https://host",
      "HTTPS://host",
    ],
  )
  def test_takes_encrypted_and_local_addresses(self, url):
    assert connect(url).url == url

  @each("key", ["", " \n"])
  def test_rejects_no_key(self, key):
    with pytest.raises(ValueError, match="in LABEL_STUDIO_API_KEY, got none"):
      connect(key=key)

  @each("key", ["hid\nden", "hidden\x00", "hidden\u2028ü"])
  def test_rejects_a_key_that_cannot_be_sent_unseen(self, key):
    with pytest.raises(ValueError, match="got other characters") as caught:
      connect(key=key)
    assert "hid" not in str(caught.value)


class TestKey:
  @pytest.fixture(autouse=True)
  def exchange(self, server):
    server.answers["POST /api/token/refresh/"] = [
      (200, {"access": "first"}),
      (200, {"access": "second"}),
    ]
    server.answers["GET /a"] = [(200, 1)]

  def test_personal_one_is_exchanged_once_and_never_sent_elsewhere(
    self, server
  ):
    connection = connect(server.url, PERSONAL)
    assert connection.ask("GET", "/a") == connection.ask("GET", "/a") == 1
    assert [(r.path, r.authorization, r.body) for r in server.requests] == [
      ("/api/token/refresh/", None, {"refresh": PERSONAL}),
      *[("/a", "Bearer first", None)] * 2,
    ]

  def test_expired_access_is_renewed(self, server):
    server.answers["GET /a"] = [(200, 1), (401, {}), (200, 2)]
    connection = connect(server.url, PERSONAL)
    assert [connection.ask("GET", "/a") for _ in range(2)] == [1, 2]
    assert server.requests[-1].authorization == "Bearer second"

  def test_one_that_is_not_exchanged_is_refused(self, server):
    refresh = "POST /api/token/refresh/"
    server.answers[refresh] = [(401, {"detail": "Token is expired."})]
    with pytest.raises(ValueError, match="a key in .*401: Token is expired"):
      connect(server.url, PERSONAL).fetch("GET", "/a")
    for content in ({}, [], {"access": None}, {"access": "a\nb"}, b"<html>"):
      server.answers[refresh] = [(200, content)]
      with pytest.raises(ValueError, match="an answer of another kind"):
        connect(server.url, PERSONAL).fetch("GET", "/a")
    assert len(server.requests) == 6

  def test_is_in_no_message_and_no_log(self, server, caplog):
    caplog.set_level(logging.DEBUG)
    error = failure(server, 400, {"detail": f"No {KEY} here"})
    assert "status 400: No <key> here." in str(error)
    error = failure(server, 302, b"", {"Location": f"/login?key={KEY}"})
    assert "see /login?key=<key>." in str(error)
    server.answers["GET /a"] = [(403, f"{PERSONAL} is first".encode())]
    with pytest.raises(ValueError, match="403: <key> is <key>"):
      connect(server.url, PERSONAL).fetch("GET", "/a")
    assert KEY not in caplog.text
    assert PERSONAL not in caplog.text


class TestErrors:
  def test_what_was_not_sent_was_not_done(self):
    with socket.create_server(("127.0.0.1", 0)) as probe:
      url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(
      TransientError, match=f"at {url}, got Connection refused.$"
    ) as caught:
      connect(url).fetch("GET", "/a")
    assert not caught.value.may_be_done

  def test_what_was_sent_may_have_been_done(self, server):
    server.answers["POST /a"] = [None]
    with pytest.raises(TransientError, match="got Remote end clos") as caught:
      connect(server.url).fetch("POST", "/a", {})
    assert caught.value.may_be_done
    assert len(server.requests) == 1

  def test_waits_no_longer_than_it_may(self):
    with socket.create_server(("127.0.0.1", 0)) as silent:
      url = f"http://127.0.0.1:{silent.getsockname()[1]}"
      with pytest.raises(TransientError, match="got timed out") as caught:
        Connection(url, KEY, allow_http=False, timeout=0.05).fetch("GET", "/a")
    assert caught.value.may_be_done

  @each(
    "status, may_be_done",
    [
      *[(408, True), (502, True), (504, True)],
      *[(425, False), (429, False), (500, False), (503, False)],
    ],
  )
  def test_troubles_of_the_server_may_pass(self, server, status, may_be_done):
    error = failure(server, status, b"Bad day.")
    assert isinstance(error, TransientError)
    assert error.may_be_done == may_be_done
    assert f"got status {status}: Bad day." in str(error)

  @each("status", [401, 403])
  def test_tells_that_the_key_is_refused(self, server, status):
    error = failure(server, status, {"detail": "Invalid token."})
    assert isinstance(error, ValueError)
    assert "Expected a key in LABEL_STUDIO_API_KEY" in str(error)
    assert f"status {status}: Invalid token. Its page" in str(error)

  def test_tells_what_is_missing(self, server):
    error = failure(server, 404, {"detail": "No Project."})
    assert isinstance(error, MissingError)

  def test_tells_what_the_server_found_wrong(self, server):
    errors = {"non_field_errors": ['"/x" does not exist']}
    body = {"detail": "Validation error", "validation_errors": errors}
    error = failure(server, 400, body)
    assert type(error) is ValueError
    assert 'got status 400: "/x" does not exist.' in str(error)

  def test_tells_of_a_page_that_is_not_the_interface(self, server):
    page = f"<!DOCTYPE html>\n<html>{'x' * 9999}".encode()
    error = failure(server, 404, page)
    assert "a page that begins '<!DOCTYPE html> <html>" in str(error)
    assert len(str(error)) < 250

  def test_redirects_are_told_and_not_followed(self, server):
    error = failure(server, 302, b"", {"Location": f"{server.url}/login"})
    assert f"status 302: see {server.url}/login." in str(error)
    assert [request.path for request in server.requests] == ["/a"]

  @each("content", [b"<html>", b"[" * 99999, b"\xff"])
  def test_tells_of_another_program(self, server, content):
    server.answers["GET /a"] = [(200, content)]
    with pytest.raises(ValueError, match="got an answer of another kind"):
      connect(server.url).ask("GET", "/a")

  def test_local_servers_are_reached_without_a_proxy(self, server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server.answers["GET /a"] = [(200, 1)]
    assert connect(server.url).ask("GET", "/a", name="a b") == 1
    assert server.requests[0].path == "/a?name=a+b"
