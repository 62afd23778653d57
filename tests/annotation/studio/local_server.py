"""An HTTP server on loopback that answers as a test tells it."""

import dataclasses
import http.server
import json
from typing import Any

from tests.annotation.studio.listener import Listener


@dataclasses.dataclass
class Request:
  """What the server got."""

  method: str
  path: str
  authorization: str | None
  body: Any


class LocalServer(Listener):
  """Answers requests from a table, and notes them.

  Attributes:
    answers: For "METHOD /path" without the query, the next answers: (status,
      body) or (status, body, headers), where the body is bytes or goes out as
      JSON; None ends the connection without an answer. The last one stays.
    requests: All requests.
  """

  def __init__(self):
    self.answers: dict[str, list] = {}
    self.requests: list[Request] = []
    super().__init__()

  def handle(self, handler: http.server.BaseHTTPRequestHandler) -> None:
    """Notes a request, and answers it."""
    body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    self.requests.append(
      Request(
        handler.command,
        handler.path,
        handler.headers.get("Authorization"),
        json.loads(body) if body else None,
      )
    )
    route = f"{handler.command} {handler.path.partition('?')[0]}"
    answers = self.answers.get(route, [(404, {"detail": "Not found."})])
    answer = answers.pop(0) if len(answers) > 1 else answers[0]
    if answer is None:
      return
    status, content, *headers = answer
    if not isinstance(content, bytes):
      content = json.dumps(content).encode()
    handler.send_response(status)
    for name, value in headers[0].items() if headers else ():
      handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
