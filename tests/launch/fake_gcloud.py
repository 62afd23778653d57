"""A cloud that plays a script, and a gcloud that asks it.

The gcloud is a shell script, which starts faster than Python: it sends its
arguments to a server in the process of the tests.
"""

import dataclasses
import os
import pathlib
import socketserver
import tarfile
import threading

# Sends the number of arguments and each of them, with a null character after
# each; gets status, output and errors in the same form.
GCLOUD = r"""#!/bin/bash
exec 3<>"/dev/tcp/127.0.0.1/$FAKE_PORT"
printf '%s\0' $# "$@" >&3
for name in status output errors; do
  IFS= read -r -d '' "$name" <&3
done
printf '%s' "$output"
printf '%s' "$errors" >&2
[[ $status != hang ]] || exec sleep 60
exit "$status"
"""


@dataclasses.dataclass
class World:
  """A cloud that plays a script.

  Attributes:
    folder: Where it notes that a command hangs.
    lives: Per creation, the states that the request takes, call by call.
    runs: Per run of the worker, [its status, the states of request and node
      after it], or "hang".
    states: Those of a request that is there at the start; deleting what is
      STUCK hangs.
    node: The state of the node.
    hosts: The size of the slice.
    fail: How many calls of a verb fail.
    calls: The arguments of every call.
    sent: The names of the files in each archive that was sent.
  """

  folder: pathlib.Path
  lives: list = dataclasses.field(default_factory=list)
  runs: list = dataclasses.field(default_factory=list)
  states: list = dataclasses.field(default_factory=list)
  node: str = "READY"
  hosts: int = 4
  fail: dict = dataclasses.field(default_factory=dict)
  calls: list = dataclasses.field(default_factory=list)
  sent: list = dataclasses.field(default_factory=list)

  def play(self, argv: list[str]) -> tuple[int | str, str, str]:
    """Returns status, output and errors of a command, and does what it does."""
    self.calls.append(argv)
    collection, verb = argv[2:4]
    name = f"{collection} {verb}"
    if self.fail.get(name, 0) > 0:
      self.fail[name] -= 1
      return _refuse(f"{verb} failed as scripted")
    options = dict(arg.split("=", 1) for arg in argv if "=" in arg)
    return {
      "queued-resources list": self._list_requests,
      "queued-resources create": self._create,
      "queued-resources delete": self._delete,
      "queued-resources describe": lambda: (0, "error: no quota\n", ""),
      "tpu-vm list": lambda: self._list_nodes(options["--format"]),
      "tpu-vm scp": lambda: self._copy(argv[4]),
      "tpu-vm ssh": lambda: self._ssh(options["--command"]),
    }[name]()

  def _list_requests(self):
    if not self.states:
      return 0, "", ""
    # The last state stays.
    state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
    return 0, f"{state}\n", ""

  def _list_nodes(self, form: str):
    if not self.states:
      return 0, "", ""
    return 0, f"{self.hosts if 'len()' in form else self.node}\n", ""

  def _create(self):
    if self.states:
      return _refuse("ALREADY_EXISTS")
    self.states, self.node = [*self.lives.pop(0)], "READY"
    return 0, "", ""

  def _delete(self):
    if self.states == ["STUCK"]:
      return self._hang("delete")
    if not self.states:
      return _refuse("NOT_FOUND")
    self.states = []
    return 0, "", ""

  def _copy(self, archive: str):
    # The file is empty unless the test uses the real git.
    names = []
    if os.path.getsize(archive):
      with tarfile.open(archive) as files:
        names = files.getnames()
    self.sent.append(names)
    return 0, "", ""

  def _ssh(self, command: str):
    if "worker.sh" not in command:
      return 0, "", ""
    run = self.runs.pop(0)
    if run == "hang":
      return self._hang("run")
    status, *after = run
    if after:
      state, self.node = after
      self.states = [state]
    return status, "", ""

  def _hang(self, what: str):
    (self.folder / f"{what}_hangs").touch()
    return "hang", "", ""


def _refuse(reason: str) -> tuple[int, str, str]:
  return 1, "", f"gcloud: {reason}\n"


class Server(socketserver.ThreadingTCPServer):
  """Answers the calls of gcloud; a context manager that serves in a thread.

  Attributes:
    world: The cloud.
  """

  daemon_threads = True

  def __init__(self):
    super().__init__(("127.0.0.1", 0), _Handler)
    self.world = World(pathlib.Path())
    self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

  def __enter__(self) -> "Server":
    self._thread.start()
    return self

  def __exit__(self, *error: object) -> None:
    self.shutdown()
    self._thread.join()
    self.server_close()


class _Handler(socketserver.StreamRequestHandler):
  server: Server

  def handle(self) -> None:
    argv = [self._read() for _ in range(int(self._read()))]
    for part in self.server.world.play(argv):
      self.wfile.write(f"{part}\0".encode())

  def _read(self) -> str:
    content = b""
    while (byte := self.rfile.read(1)) != b"\0":
      assert byte, "gcloud was stopped"
      content += byte
    return content.decode()
