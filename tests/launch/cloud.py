"""A cloud that plays a script, for the tests of `launch/tpu.sh`."""

import pathlib
import shlex

from tests.launch import scripts
from tests.launch.fake_gcloud import GCLOUD, Server, World

WHAT = {
  "TPU_NAME": "cub",
  "ZONE": "us-west4-a",
  "ACCELERATOR_TYPE": "v5litepod-16",
  "RUNTIME_VERSION": "v2-alpha-tpuv5-lite",
  "WORKDIR": "gs://bucket/runs/cub",
  "DATA": "gs://bucket/tfds",
}
PREEMPTED = [255, "SUSPENDED", "PREEMPTED"]


class Cloud:
  """A cloud that plays a script, and what the launcher did with it."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    self.bin = folder / "bin"
    self._server = Server()
    scripts.install(self.bin, "gcloud", GCLOUD)
    # The real one takes most of the time; one test uses it.
    scripts.install(self.bin, "git", "#!/bin/sh\n")

  def __enter__(self) -> "Cloud":
    self._server.__enter__()
    return self

  def __exit__(self, *error: object) -> None:
    self._server.__exit__(*error)

  def plan(self, **script):
    """Starts anew with a script: see `World`."""
    self._server.world = World(self.folder, **script)

  def environment(self, **more: str) -> dict[str, str]:
    variables = scripts.clean_environment(self.bin) | WHAT
    port = self._server.server_address[1]
    variables |= {"FAKE_PORT": str(port), "POLL_SECONDS": "0"}
    return variables | more

  def launch(self, *arguments: str, **more: str):
    return scripts.run("tpu.sh", arguments, self.environment(**more))

  def calls(self) -> list[list[str]]:
    return self._server.world.calls

  def count(self, *verb: str) -> int:
    return sum(call[2:4] == list(verb) for call in self.calls())

  def runs(self) -> list[list[str]]:
    """The commands that ran the worker, as the shell there reads them."""
    commands = [call[-1] for call in self.calls() if call[3] == "ssh"]
    return [
      shlex.split(command.removeprefix("--command="))
      for command in commands
      if "worker.sh" in command
    ]

  def sent(self) -> list[list[str]]:
    """The names of the files in each archive that was sent."""
    return self._server.world.sent

  def summary(self) -> tuple[int, int, int]:
    """How often it created, ran and deleted."""
    return (
      self.count("queued-resources", "create"),
      len(self.runs()),
      self.count("queued-resources", "delete"),
    )

  def is_empty(self) -> bool:
    return not self._server.world.states
