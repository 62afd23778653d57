"""A cloud that plays a script, for the tests of `launch/tpu.sh`."""

import json
import pathlib
import shlex

from tests.launch import scripts

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
    fake = pathlib.Path(__file__).with_name("fake_gcloud.py")
    scripts.install_python(self.bin, "gcloud", fake)
    # The real one takes most of the time; one test uses it.
    scripts.install(self.bin, "git", "#!/bin/sh\n")

  def plan(self, *, lives=(), runs=(), states=(), hosts=4, fail=None):
    world = {
      "lives": list(lives),
      "runs": list(runs),
      "states": list(states),
      "node": "READY",
      "hosts": hosts,
      "fail": fail or {},
    }
    (self.folder / "script.json").write_text(json.dumps(world))

  def environment(self, **more: str) -> dict[str, str]:
    variables = scripts.clean_environment(self.bin) | WHAT
    variables |= {"FAKE": str(self.folder), "POLL_SECONDS": "0"}
    return variables | more

  def launch(self, *arguments: str, **more: str):
    return scripts.run("tpu.sh", arguments, self.environment(**more))

  def calls(self) -> list[list[str]]:
    return scripts.lines(self.folder / "calls.jsonl")

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
    return scripts.lines(self.folder / "sent.jsonl")

  def summary(self) -> tuple[int, int, int]:
    """How often it created, ran and deleted."""
    return (
      self.count("queued-resources", "create"),
      len(self.runs()),
      self.count("queued-resources", "delete"),
    )

  def is_empty(self) -> bool:
    world = json.loads((self.folder / "script.json").read_text())
    return not world["states"]
