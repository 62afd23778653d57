"""Reads files of TensorBoard's events, without TensorBoard."""

import pathlib
import struct
from typing import Any

from etils import epath
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

Folder = pathlib.Path | epath.Path
# Protobuf makes the class when the module is imported.
Event: Any = event_pb2.Event  # pyright: ignore[reportAttributeAccessIssue]


def path_in(workdir: Folder) -> Folder:
  """Returns the only file of a run's events."""
  (path,) = (workdir / "tensorboard").iterdir()
  return path


def read(workdir: Folder) -> list[Any]:
  """Returns the events of a run, their checksums checked."""
  data = path_in(workdir).read_bytes()
  found = []
  while data:
    length, check = struct.unpack("<QI", data[:12])
    assert check == masked_crc32c(data[:8])
    content, data = data[12 : 12 + length], data[12 + length :]
    assert struct.unpack("<I", data[:4]) == (masked_crc32c(content),)
    found.append(Event.FromString(content))
    data = data[4:]
  return found


def read_scalars(workdir: Folder) -> list[tuple[str, int, float]]:
  """Returns tag, step and value of each event after the first."""
  start, *others = read(workdir)
  assert start.file_version == "brain.Event:2"
  return [
    (value.tag, event.step, value.simple_value)
    for event in others
    for value in event.summary.value
  ]
