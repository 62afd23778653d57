"""Tests of decern_jax/compile_check/topology.py."""

import importlib.util
import os
import subprocess
import sys
import types
from typing import Any

import jax
import numpy as np
import pytest

from decern_jax.compile_check import topology
from tests import tiny
from tests.table import each

HAS_LIBTPU = importlib.util.find_spec("libtpu") is not None
needs_libtpu = pytest.mark.skipif(not HAS_LIBTPU, reason="libtpu is missing")


def fake_mesh(kind: str, platform: str) -> Any:
  """A mesh of one device that this machine does not have."""
  device = types.SimpleNamespace(device_kind=kind, platform=platform)
  return types.SimpleNamespace(devices=np.array([device]))


class TestMakeMesh:
  @each("count", [1, 3, 8])
  def test_has_the_simulated_devices(self, count):
    mesh = topology.make_mesh(f"cpu:{count}")
    assert dict(mesh.shape) == {"pool": count}
    assert mesh.axis_types == (jax.sharding.AxisType.Auto,)
    assert {device.platform for device in mesh.devices.flat} == {"cpu"}

  def test_starts_as_many_as_are_asked_for(self):
    script = (
      "from decern_jax.compile_check import topology\n"
      "import jax\n"
      "print(topology.make_mesh('cpu:5').size, jax.device_count())"
    )
    environment = {
      name: value
      for name, value in os.environ.items()
      if name not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")
    }
    done = subprocess.run(
      [sys.executable, "-c", script],
      cwd=tiny.ROOT,
      env={**environment, "JAX_PLATFORMS": "cpu"},
      capture_output=True,
      text=True,
      timeout=120,
      check=False,
    )
    assert done.stdout == "5 5\n", done.stderr

  def test_takes_the_first_devices(self):
    mesh = topology.make_mesh("cpu:8", num_devices=2)
    assert mesh.devices.tolist() == jax.devices()[:2]

  def test_rejects_more_devices_than_the_topology_has(self):
    with pytest.raises(ValueError, match="<= 4, got 5"):
      topology.make_mesh("cpu:4", num_devices=5)

  def test_rejects_more_devices_than_the_process_has(self):
    with pytest.raises(ValueError, match="at most 8 .* got 'cpu:9'"):
      topology.make_mesh("cpu:9")

  @each("name", ["cpu", "cpu:", "cpu:0", "cpu:two", "cpu:-1"])
  def test_rejects_simulated_devices_without_number(self, name):
    with pytest.raises(ValueError, match=f"as 'cpu:8', got '{name}'"):
      topology.make_mesh(name)

  @each("name", ["", "v5e", "v5e-16", "v5e:16", "4x4"])
  def test_rejects_what_names_no_topology(self, name):
    with pytest.raises(ValueError, match=f"'v5p:2x2x1', got '{name}'"):
      topology.make_mesh(name)

  def test_tells_how_to_install_libtpu(self, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    command = rf'pip install "jax\[tpu\]=={jax.__version__}"'
    with pytest.raises(ValueError, match=f"'v5e:4x4': {command}"):
      topology.make_mesh("v5e:4x4")


@needs_libtpu
class TestMakeTpuMesh:
  @each(
    "name, count, kind",
    [
      ("v4:2x2x1", 4, "TPU v4"),
      ("v5e:1x1", 1, "TPU v5 lite"),
      ("v5e:4x4", 16, "TPU v5 lite"),
      ("v5p:2x2x1", 4, "TPU v5"),
      ("v6e:2x4", 8, "TPU v6 lite"),
    ],
  )
  def test_has_the_chips(self, name, count, kind):
    mesh = topology.make_mesh(name)
    assert mesh.size == count
    assert {device.device_kind for device in mesh.devices.flat} == {kind}
    assert (topology.device_memory(mesh) or 0) > 8 * topology.GIB

  @each("name", ["v5e:3x3", "v99:2x2"])
  def test_rejects_what_libtpu_does_not_know(self, name):
    with pytest.raises(
      ValueError, match=f"libtpu knows, got '{name}': INVALID"
    ):
      topology.make_mesh(name)


class TestMeshOfFirstProcess:
  def test_is_the_mesh_of_a_run_of_one_process(self):
    mesh = topology.make_mesh("cpu:8")
    assert topology.mesh_of_first_process(mesh) == mesh

  @needs_libtpu
  def test_is_a_host_of_a_slice(self):
    mesh = topology.make_mesh("v5e:4x4")
    assert topology.mesh_of_first_process(mesh).size == 4


class TestDeviceMemory:
  def test_is_that_of_the_kind(self):
    mesh = fake_mesh("TPU v5 lite", "tpu")
    assert topology.device_memory(mesh) == 15.75 * 2**30

  def test_is_unknown_for_other_kinds(self):
    assert topology.device_memory(fake_mesh("TPU v99", "tpu")) is None
    assert topology.device_memory(topology.make_mesh("cpu:8")) is None
