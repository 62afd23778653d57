"""Tests of decern_jax/annotation/studio/connection.py, with a fake package."""

import sys
import types

import pytest

from decern_jax.annotation.studio.connection import Connection, MissingError
from decern_jax.annotation.studio.patience import LostError
from tests.table import each

KEY = "secret-key-0123"
URL = "http://localhost:8080"


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


class Client:
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

  sdk = types.ModuleType("label_studio_sdk")
  sdk.core = types.ModuleType("label_studio_sdk.core")
  sdk.LabelStudio, sdk.core.ApiError = LabelStudio, ApiError
  httpx = types.ModuleType("httpx")
  httpx.Client = Client
  for error in (TransportError, ConnectError, ConnectTimeout):
    setattr(httpx, error.__name__, error)
  monkeypatch.setitem(sys.modules, "httpx", httpx)
  monkeypatch.setitem(sys.modules, "label_studio_sdk", sdk)
  monkeypatch.setitem(sys.modules, "label_studio_sdk.core", sdk.core)
  return options


def connect(url=URL, key=KEY):
  return Connection(url, key, seconds=5.0)


def failing(error):
  """What a call comes to whose answer is an error."""

  def ask():
    raise error

  with pytest.raises((ValueError, RuntimeError)) as caught:
    connect().call(ask)
  assert KEY not in str(caught.value)
  assert "not to be shown" not in str(caught.value)
  return caught.value


class TestConnection:
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
    del sys.modules["label_studio_sdk"].LabelStudio
    with pytest.raises(ValueError, match="label-studio-sdk >= 2, got an older"):
      connect()


class TestStatus:
  def test_is_what_the_user_would_get(self):
    assert connect().status("/a") == 200
    assert connect().status("/b") == 404

  def test_may_be_lost(self):
    with pytest.raises(LostError, match="got ReadTimeout"):
      connect().status("/lost")


class TestCall:
  def test_returns_the_answer(self):
    assert connect().call(lambda: 5) == 5

  @each("kind", [ConnectError, ConnectTimeout])
  def test_what_was_not_sent_was_not_done(self, kind):
    error = failing(kind("Connection refused."))
    assert isinstance(error, LostError)
    assert not error.is_unclear
    assert (
      f"an answer of Label Studio at {URL}, got Connection refused."
      in str(error)
    )
    assert not str(error).endswith("..")

  def test_what_was_sent_may_have_been_done(self):
    error = failing(ReadTimeout())
    assert isinstance(error, LostError)
    assert error.is_unclear
    assert "got ReadTimeout." in str(error)

  @each(
    "status, is_unclear",
    [(408, True), (429, False), (500, False), (502, True), (503, False)],
  )
  def test_troubles_of_the_server_may_pass(self, status, is_unclear):
    error = failing(ApiError(status_code=status, body="Bad day."))
    assert isinstance(error, LostError)
    assert error.is_unclear == is_unclear
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
