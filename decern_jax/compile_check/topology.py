"""Meshes of devices that are not attached, to compile programs for."""

import importlib.util
import os
import re
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from decern_jax.distributed.sharding import make_mesh_of
from decern_jax.io.validation import check_integer

GIB = 2**30

# Memory that the compiler of libtpu 0.0.42 allows a program on one device: a
# little less than the chip has. A device is a chip; half a chip of v2, v3, 7x.
_DEVICE_MEMORY_GIB = {
  "TPU v2": 7.48,
  "TPU v3": 15.48,
  "TPU v4": 31.75,
  "TPU v5": 95.74,
  "TPU v5 lite": 15.75,
  "TPU v6 lite": 31.25,
  "TPU7x": 94.75,
}

# Without these, libtpu queries the TPU VM that it expects to run on, and warns.
_TPU_ENVIRONMENT = {
  "TPU_ACCELERATOR_TYPE": "v5litepod-4",
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_WORKER_HOSTNAMES": "localhost",
}

_SIMULATION_FLAG = "--xla_force_host_platform_device_count"


def make_mesh(topology: str, *, num_devices: int | None = None) -> Mesh:
  """Returns the mesh of a run on devices that need not be attached.

  Args:
    topology: `cpu:8` for that many simulated devices; or, if libtpu is
      installed, a TPU and its shape in chips, as `v5e:4x4` or `v5p:2x2x1`.
    num_devices: Use only the first `num_devices` devices; None for all.

  Returns:
    The mesh, with the axis `pool` of type Auto as in `sharding.make_mesh`.

  Raises:
    ValueError: If the topology is unknown, libtpu is missing, this process has
      already started fewer simulated devices, or the topology has fewer devices
      than `num_devices`.
  """
  platform, _, shape = topology.partition(":")
  if platform == "cpu":
    devices = _simulated_devices(topology, shape)
  else:
    devices = _tpu_devices(topology, shape)
  count = check_integer(
    "system.num_devices",
    len(devices) if num_devices is None else num_devices,
    low=1,
    high=len(devices),
  )
  return make_mesh_of(devices[:count])


def mesh_of_first_process(mesh: Mesh) -> Mesh:
  """Returns the mesh of the devices of one process of a run."""
  first = mesh.devices.flat[0].process_index
  return make_mesh_of(
    [d for d in mesh.devices.flat if d.process_index == first]
  )


def device_memory(mesh: Mesh) -> int | None:
  """Returns the memory that a program may use on each device of a mesh.

  Returns:
    The number of bytes; None for an unknown kind of device.
  """
  gib = _DEVICE_MEMORY_GIB.get(mesh.devices.flat[0].device_kind)
  return None if gib is None else int(gib * GIB)


def _simulated_devices(topology: str, count: str) -> list[Any]:
  """Returns the first simulated devices."""
  if not re.fullmatch(r"[1-9]\d{0,3}", count):
    raise ValueError(
      "Expected `topology` of simulated devices with their number, as 'cpu:8',"
      f" got {topology!r}."
    )
  flags = os.environ.get("XLA_FLAGS", "")
  if _SIMULATION_FLAG not in flags:
    # The CPU backend reads this when it starts: below, if it has not started.
    os.environ["XLA_FLAGS"] = f"{flags} {_SIMULATION_FLAG}={count}".strip()
  devices = jax.devices("cpu")
  if len(devices) < int(count):
    raise ValueError(
      f"Expected `topology` of at most {len(devices)} simulated devices, with"
      " which this process has started (XLA_FLAGS, JAX_NUM_CPU_DEVICES), got"
      f" {topology!r}."
    )
  return devices[: int(count)]


def _tpu_devices(topology: str, shape: str) -> list[Any]:
  """Returns the devices of a TPU slice."""
  if not re.fullmatch(r"\w+:\d+(x\d+){1,2}", topology):
    raise ValueError(
      "Expected `topology` as 'cpu:8', 'v5e:4x4' or 'v5p:2x2x1', got"
      f" {topology!r}."
    )
  has_library = importlib.util.find_spec("libtpu") is not None
  if not has_library and not os.environ.get("TPU_LIBRARY_PATH"):
    raise ValueError(
      "Expected libtpu, which compiles for TPUs on any machine, for `topology`"
      f' {topology!r}: pip install "jax[tpu]=={jax.__version__}". Without it,'
      " 'cpu:8' simulates devices."
    )
  for name, value in _TPU_ENVIRONMENT.items():
    os.environ.setdefault(name, value)
  try:
    return topologies.get_topology_desc(
      platform="tpu", topology_name=topology, **_tpu_options(topology, shape)
    ).devices
  except jax.errors.JaxRuntimeError as error:
    raise ValueError(
      f"Expected `topology` a TPU that libtpu knows, got {topology!r}: {error}"
    ) from None


def _tpu_options(topology: str, shape: str) -> dict[str, object]:
  """Returns the options that libtpu detects by itself on a TPU VM."""
  options = {}
  if topology.startswith("v4:"):
    # JAX needs the two cores of a chip as one device.
    options["chip_config_name"] = "megacore_dense"
  if set(shape.split("x")) == {"1"}:
    # By default a host with four chips is assumed.
    options["chips_per_host_bounds"] = [1, 1, 1]
  return options
