"""A run that asks, its server, and a browser."""

import http.client
import json

import pytest

from tests.annotation.page import asked
from tests.annotation.page.browser import start
from tests.annotation.page.driving import wait_for

BASE = f"/{asked.TOKEN}/"


@pytest.fixture
def workdir(tmp_path):
  return asked.write_run(tmp_path)


@pytest.fixture
def server(workdir):
  with asked.serve(workdir) as server:
    yield server


@pytest.fixture
def ask(server):
  """Sends a request; returns status, body and headers of the reply."""
  port = server.address.port

  def ask(path, *, method="GET", body=None, host=f"127.0.0.1:{port}", **extra):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {name.replace("_", "-"): value for name, value in extra.items()}
    if host is not None:
      headers["Host"] = host
    connection.putrequest(method, path, skip_host=True)
    for name, value in headers.items():
      connection.putheader(name, value)
    if body is not None:
      connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, content, reply.headers

  return ask


@pytest.fixture
def post(ask, server):
  """Sends an answer as the page does, with changes."""
  origin = f"http://127.0.0.1:{server.address.port}"

  def post(
    index=0, labels=("Pear",), *, version=None, serial=1, body=None, **headers
  ):
    version = version or server.current_query.view()["version"]
    answer_ = {
      "version": version,
      "index": index,
      "labels": labels,
      "page_id": "p",
      "serial": serial,
    }
    headers = {"Origin": origin, **headers}
    headers = {k: v for k, v in headers.items() if v is not None}
    content = json.dumps(answer_).encode() if body is None else body
    return ask(f"{BASE}answer", method="POST", body=content, **headers)

  return post


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
  with start(tmp_path_factory.mktemp("chromium")) as browser:
    yield browser


@pytest.fixture
def open_page(browser, tmp_path):
  """Opens the page of a run that asks; returns the run's folder."""
  servers = []

  def open_page(**changes):
    workdir = asked.write_run(tmp_path, **changes)
    served = asked.serve(workdir)
    servers.append(served)
    browser.open(served.__enter__().address.url)
    wait_for(browser, 0)
    return workdir

  yield open_page
  browser.open("about:blank")
  for served in servers:
    served.__exit__(None, None, None)
