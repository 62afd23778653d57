"""Compiles a run for devices that are not attached.

  decern-jax compile-check --config=NAME --topology=v5e:4x4

Prints the memory that each program needs on a device, and fails if a program
does not fit. Use it to check a launch before renting hardware. Takes the flags
of `decern-jax run`, and reads neither images nor weights.
"""

from collections.abc import Sequence
import dataclasses
import json

from absl import flags
from etils import epath
import jax
from jax.sharding import Mesh

from decern_jax.cli import command, config_files, config_flag
from decern_jax.compile_check import program, round_programs, topology
from decern_jax.compile_check.program import Figures, Program
from decern_jax.compile_check.run_setting import Setting, make_setting
from decern_jax.distributed import processes
from decern_jax.runs import check

GIB = 2**30
MIB = 2**20

_COLUMNS = (
  "arguments",
  "outputs",
  "temporaries",
  "code",
  "resident",
  "total",
)

COMMAND = command.Command(
  required=("config", "topology"), configurations={"config": config_files.RUN}
)

_TOPOLOGY = flags.DEFINE_string(
  "topology",
  None,
  "Devices to compile for: a TPU and its shape in chips, as v5e:4x4, v6e:16x16"
  " or v5p:2x2x1; or cpu:8 for eight simulated devices.",
)
_SIZES = {
  name: flags.DEFINE_integer(
    name, None, f"{text}; default: as published.", lower_bound=1
  )
  for name, text in (
    ("num_train", "Examples of the pool"),
    ("num_test", "Test examples"),
    ("num_classes", "Classes"),
  )
}
_DEVICE_MEMORY_GIB = flags.DEFINE_float(
  "device_memory_gib",
  None,
  "Memory of a device in GiB; default: that of the kind of TPU.",
  lower_bound=0.0,
)
_JSON = flags.DEFINE_string("json", None, "File to write the figures to.")


def run(
  config,
  topology_name: str,
  *,
  device_memory_gib: float | None = None,
  json_file: epath.Path | None = None,
  **sizes: int | None,
) -> None:
  """Compiles the programs of a configuration, and prints what they need.

  Args:
    config: The configuration.
    topology_name: Devices to compile for, as in `topology.make_mesh`.
    device_memory_gib: Memory of a device; None for the known memory of this
      kind of TPU.
    json_file: File to write the figures to, or None.
    **sizes: As in `make_setting`.

  Raises:
    ValueError: If the configuration, the topology or a size is invalid. This
      is checked before anything is compiled.
    RuntimeError: If a program does not fit on a device.
  """
  check.check(config)
  if json_file is not None and not json_file.parent.is_dir():
    raise ValueError(
      f"Expected `--json` in a folder that exists, got {json_file}."
    )
  mesh = topology.make_mesh(
    topology_name, num_devices=config.system.num_devices
  )
  limit = _memory_limit(mesh, device_memory_gib)
  setting = make_setting(config, mesh, device_memory=limit, **sizes)
  for line in _describe(setting, topology_name, limit):
    processes.say(line)
  with jax.default_device(mesh.devices.flat[0]):
    listed = round_programs.list_programs(setting)
    figures = [_measure_and_show(item) for item in listed]
  misfits = [
    (item, found)
    for item, found in zip(listed, figures, strict=True)
    if found.refusal or (limit is not None and found.total > limit)
  ]
  if json_file is not None:
    is_known = bool(misfits) or limit is not None
    content = {
      **_as_dict(setting, topology_name, limit, figures),
      "fits": not misfits if is_known else None,
    }
    json_file.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
  if misfits:
    raise RuntimeError(
      "\n".join(_explain(*misfit, limit) for misfit in misfits)
    )
  processes.say(_conclude(figures, limit))


def _memory_limit(mesh: Mesh, gib: float | None) -> int | None:
  """Returns the memory of a device in bytes, None for simulated devices."""
  if gib is not None:
    return int(gib * GIB)
  limit, device = topology.device_memory(mesh), mesh.devices.flat[0]
  if limit is None and device.platform != "cpu":
    raise ValueError(
      "Expected `--device_memory_gib`, as the memory of a device of kind"
      f" {device.device_kind!r} is not known."
    )
  return limit


def _describe(
  setting: Setting, topology_name: str, limit: int | None
) -> list[str]:
  """Returns the header of the table: the setting and the column names."""
  mesh = setting.mesh
  kind = mesh.devices.flat[0].device_kind
  memory = "" if limit is None else f" of {limit / GIB:.2f} GiB"
  lines = [
    f"{topology_name}: {mesh.size} x {kind}{memory}",
    f"{setting.num_train:,} training and {setting.num_test:,} test images of"
    f" {setting.num_classes} classes; {setting.model_name} in {setting.dtype},"
    f" training {setting.scope!r}, {setting.budget} labels a round",
  ]
  if setting.pool_on_host:
    lines.append(
      "The features of the pool stay on the host where training leaves them."
    )
  if setting.strategy not in round_programs.STRATEGIES:
    lines.append(
      f"The selection by {setting.strategy!r} is left out: only that of"
      f" {', '.join(round_programs.STRATEGIES)} can be compiled."
    )
  head = "".join(f"{name:>13}" for name in _COLUMNS)
  return [*lines, "", f"{'MiB per device':22}{head}{'GFLOP':>10}{'s':>8}"]


def _measure_and_show(item: Program) -> Figures:
  """Compiles a program, and prints its row of the table."""
  found = program.measure(item)
  if found.refusal:
    processes.say(f"{found.name:22} does not fit: {found.refusal}")
    return found
  cells = "".join(f"{getattr(found, name) / MIB:13.1f}" for name in _COLUMNS)
  flops = "-" if found.flops is None else f"{found.flops / 1e9:.1f}"
  processes.say(f"{found.name:22}{cells}{flops:>10}{found.seconds:>8.1f}")
  if item.note:
    processes.say(f"  {item.note}")
  return found


def _explain(item: Program, found: Figures, limit: int | None) -> str:
  """Explains why a program does not fit, with advice."""
  need = f"{found.total / GIB:.2f} GiB per device"
  if found.refusal:
    need = f"more than the compiler has ({found.refusal.rstrip('.')})"
  memory = "" if limit is None else f" of {limit / GIB:.2f} GiB"
  # If the other arrays take most of the memory, a smaller program does not
  # help.
  is_resident = found.resident > found.total - found.resident
  remedy = round_programs.MORE_DEVICES if is_resident else item.remedy
  return f"{found.name!r} needs {need}{memory}. It helps: {remedy}."


def _conclude(figures: Sequence[Figures], limit: int | None) -> str:
  """Returns the last line if all programs fit."""
  largest = max(figures, key=lambda found: found.total)
  line = f"Largest: {largest.name!r}, {largest.total / GIB:.2f} GiB per device"
  if limit is None:
    return f"{line}. --device_memory_gib compares it with a device."
  return f"{line}, {largest.total / limit:.1%} of its memory. Everything fits."


def _as_dict(
  setting: Setting,
  topology_name: str,
  limit: int | None,
  figures: Sequence[Figures],
) -> dict[str, object]:
  """Returns the content of the JSON file."""
  has_selection = setting.strategy in round_programs.STRATEGIES
  return {
    "topology": topology_name,
    "device_kind": setting.mesh.devices.flat[0].device_kind,
    "num_devices": setting.mesh.size,
    "device_memory": limit,
    "num_train": setting.num_train,
    "num_test": setting.num_test,
    "num_classes": setting.num_classes,
    "not_compiled": [] if has_selection else [setting.strategy],
    "programs": [
      {**dataclasses.asdict(found), "total": found.total} for found in figures
    ],
  }


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  json_file = _JSON.value
  command.run(
    argv,
    lambda: run(
      config_flag.CONFIG.value,
      _TOPOLOGY.value or "",
      device_memory_gib=_DEVICE_MEMORY_GIB.value,
      json_file=epath.Path(json_file) if json_file else None,
      **{name: flag.value for name, flag in _SIZES.items()},
    ),
    if_interrupted="Interrupted.",
  )
