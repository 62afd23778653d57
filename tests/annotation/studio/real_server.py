"""A Label Studio of its own for a test, started from its package.

  label-studio start --no-browser --init --internal-host 127.0.0.1 ...

is what `start` runs: DECERN_LABEL_STUDIO names the executable, which else is
looked for on the path.
"""

import contextlib
import http.client
import http.server
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from typing import Any

import pytest

from tests.annotation.studio.listener import Listener

EMAIL = "ada@example.com"
PASSWORD = "a long password"

_SECONDS_TO_START = 300


def find_executable() -> str:
  """Returns the executable; skips the test where there is none."""
  name = os.environ.get("DECERN_LABEL_STUDIO", "label-studio")
  found = shutil.which(name)
  if found is None:
    pytest.skip(f"no {name}, and no other in DECERN_LABEL_STUDIO")
  return found


def free_port() -> int:
  with socket.create_server(("127.0.0.1", 0)) as probe:
    return probe.getsockname()[1]


class RealServer:
  """A server on loopback.

  Attributes:
    port: Its port.
    url: Its address.
  """

  def __init__(self, folder: pathlib.Path):
    """Prepares a server, which `start` starts.

    Args:
      folder: Where it keeps all that it has.
    """
    self.port = free_port()
    self.url = f"http://127.0.0.1:{self.port}"
    self._folder = folder
    self._process: Any = None

  def start(self) -> None:
    """Starts it, and waits until it answers."""
    environment = {
      **os.environ,
      "LABEL_STUDIO_BASE_DATA_DIR": str(self._folder),
      "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
      "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": "/",
      # It reaches for nothing outside.
      "COLLECT_ANALYTICS": "false",
      "LATEST_VERSION_CHECK": "false",
      "SENTRY_DSN": "",
      "FRONTEND_SENTRY_DSN": "",
    }
    environment.pop("PYTHONPATH", None)
    with open(self._folder / "log", "ab") as log:
      self._process = subprocess.Popen(
        [
          *(find_executable(), "start", "--no-browser", "--init", "empty"),
          *("--internal-host", "127.0.0.1", "--port", str(self.port)),
          *("--username", EMAIL, "--password", PASSWORD),
          *("--data-dir", str(self._folder), "--log-level", "ERROR"),
        ],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
      )
    self._wait()

  def kill(self) -> None:
    """Ends it, whatever it does."""
    os.killpg(self._process.pid, signal.SIGKILL)
    self._process.wait()

  def _wait(self) -> None:
    end = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < end and self._process.poll() is None:
      connection = http.client.HTTPConnection("127.0.0.1", self.port)
      with contextlib.suppress(OSError), contextlib.closing(connection):
        connection.request("GET", "/health")
        if connection.getresponse().status == 200:
          return
      time.sleep(0.5)
    raise TimeoutError((self._folder / "log").read_text()[-2000:])


def log_in(url: str):
  """Returns a session of `requests` of the user, and a key."""
  import requests

  session = requests.Session()
  session.get(f"{url}/user/login/").raise_for_status()
  form = {"email": EMAIL, "password": PASSWORD}
  token = {"csrfmiddlewaretoken": session.cookies["csrftoken"]}
  session.post(f"{url}/user/login/", data={**form, **token}).raise_for_status()
  session.headers["X-CSRFToken"] = session.cookies["csrftoken"] or ""
  session.headers["Referer"] = url
  answer = session.post(f"{url}/api/token/")
  answer.raise_for_status()
  return session, answer.json()["token"]


class Wire(Listener):
  """A connection to a server that fails as it is told.

  Attributes:
    script: What becomes of the next requests to import tasks: "cut before" the
      server gets it, "cut after" it has answered, "late": cut, and brought to
      the server some time later, "503": refused, "pass".
    num_imports: How many of them came.
  """

  def __init__(self, port: int):
    """Opens the wire.

    Args:
      port: Of the server.
    """
    self.script: list[str] = []
    self.num_imports = 0
    self._port = port
    self._late: list[threading.Timer] = []
    super().__init__("HTTP/1.1")

  def __exit__(self, *error: object) -> None:
    super().__exit__(*error)
    for timer in self._late:
      timer.join()

  def handle(self, handler: http.server.BaseHTTPRequestHandler) -> None:
    """Brings a request to the server, and its answer back, or fails."""
    length = int(handler.headers.get("Content-Length") or 0)
    body = handler.rfile.read(length)
    request = (handler.command, handler.path, body, dict(handler.headers))
    what = "pass"
    if re.search(r"/import(\?|$)", handler.path):
      self.num_imports += 1
      what = self.script.pop(0) if self.script else "pass"
    handler.close_connection = True
    if what == "503":
      _answer(handler, 503, b"{}")
    elif what == "late":
      timer = threading.Timer(2.0, self._ask, request)
      self._late.append(timer)
      timer.start()
    elif what != "cut before":
      try:
        status, content = self._ask(*request)
      except OSError:
        return
      if what != "cut after":
        _answer(handler, status, content)

  def _ask(self, method, path, body, headers) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", self._port)
    headers = {k: v for k, v in headers.items() if k.lower() != "connection"}
    with contextlib.closing(connection):
      connection.request(method, path, body, headers)
      answer = connection.getresponse()
      return answer.status, answer.read()


def _answer(handler, status: int, content: bytes) -> None:
  handler.send_response(status)
  handler.send_header("Content-Type", "application/json")
  handler.send_header("Content-Length", str(len(content)))
  handler.send_header("Connection", "close")
  handler.end_headers()
  with contextlib.suppress(OSError):
    handler.wfile.write(content)
