"""A gcloud that plays a script: `$FAKE/script.json`; it logs to `calls.jsonl`.

The script has
  lives: per creation, the states that the request takes, call by call;
  runs: per run of the worker, [its status, the states of request and node
    after it], or "hang";
  hosts: the size of the slice;
  states: those of a request that is there at the start; deleting what is STUCK
    hangs;
  fail: {verb: how many calls of it fail}.
"""

import json
import os
import pathlib
import sys
import tarfile
import time

FOLDER = pathlib.Path(os.environ["FAKE"])


def say(line: object) -> None:
  sys.stdout.write(f"{line}\n")


def refuse(reason: str) -> int:
  sys.stderr.write(f"gcloud: {reason}\n")
  return 1


def take(states: list[str]) -> str:
  """Returns the first state, and drops it unless it is the last."""
  return states.pop(0) if len(states) > 1 else states[0]


def fails(world: dict, verb: str) -> bool:
  left = world["fail"].get(verb, 0)
  world["fail"][verb] = left - 1
  return left > 0


def list_requests(world: dict) -> int:
  if world["states"]:
    say(take(world["states"]))
  return 0


def list_nodes(world: dict, form: str) -> int:
  if world["states"]:
    say(world["hosts"] if "len()" in form else world["node"])
  return 0


def create(world: dict) -> int:
  if world["states"]:
    return refuse("ALREADY_EXISTS")
  world["states"] = world["lives"].pop(0)
  world["node"] = "READY"
  return 0


def delete(world: dict) -> int:
  if world["states"] == ["STUCK"]:
    return hang("delete")
  if not world["states"]:
    return refuse("NOT_FOUND")
  world["states"] = []
  return 0


def hang(what: str) -> int:
  (FOLDER / f"{what}_hangs").touch()
  time.sleep(60)
  return 0


def scp(archive: str) -> int:
  # The file is empty unless the test uses the real git.
  names = []
  if os.path.getsize(archive):
    with tarfile.open(archive) as files:
      names = files.getnames()
  with (FOLDER / "sent.jsonl").open("a") as sent:
    sent.write(json.dumps(names) + "\n")
  return 0


def ssh(world: dict, command: str) -> int:
  if "worker.sh" not in command:
    return 0
  run = world["runs"].pop(0)
  if run == "hang":
    return hang("run")
  status, *after = run
  if after:
    state, world["node"] = after
    world["states"] = [state]
  return status


def play(world: dict, argv: list[str]) -> int:
  """Returns the status of a command, and changes the world as it does."""
  collection, verb = argv[2:4]
  options = dict(arg.split("=", 1) for arg in argv if "=" in arg)
  if fails(world, f"{collection} {verb}"):
    return refuse(f"{verb} failed as scripted")
  form = options.get("--format", "")
  return {
    "queued-resources list": lambda: list_requests(world),
    "queued-resources create": lambda: create(world),
    "queued-resources delete": lambda: delete(world),
    "queued-resources describe": lambda: say("error: no quota") or 0,
    "tpu-vm list": lambda: list_nodes(world, form),
    "tpu-vm scp": lambda: scp(argv[4]),
    "tpu-vm ssh": lambda: ssh(world, options["--command"]),
  }[f"{collection} {verb}"]()


def main(argv: list[str]) -> int:
  with (FOLDER / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps(argv) + "\n")
  path = FOLDER / "script.json"
  world = json.loads(path.read_text())
  status = play(world, argv)
  path.write_text(json.dumps(world))
  return status


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
