"""The floors of the house: imports point downwards only."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "decern_jax"

# A module imports from lower floors, and from its own package.
FLOORS = {
  "ops": 0,
  "memory": 0.5,
  "object_store": 0.5,
  "file_lock": 0.5,
  "storage": 1,
  "processes": 1,
  "sharding": 1,
  "topology": 1.5,
  "program": 1.5,
  "rounds": 1,
  "validation": 1,
  "models": 2,
  "data": 2,
  "batches": 3,
  "training": 3,
  "train_step": 3.5,
  "evaluation": 4.2,
  "multilabel_metrics": 3,
  "features": 3,
  "loss_module": 3.2,
  "feature_store": 3,
  "scoring": 3,
  "diversity": 3,
  "selection": 3.5,
  "strategies": 4,
  "report": 4,
  "labeling": 4,
  "checkpoint": 4,
  "workdir": 3,
  "learner": 4,
  "frozen": 4.5,
  "finetuning": 4.5,
  "acquisition": 4.5,
  "model_file": 4.5,
  "driver": 5,
  "experiment": 5,
  "command": 5,
  "config_flag": 5,
  "pretraining": 5.2,
  "pretrain": 5.8,
  "session": 5.5,
  "review": 5.2,
  "people": 5.6,
  "run_setting": 5.5,
  "round_programs": 5.7,
  "compile_check": 6,
  "compare": 6,
  "main": 6,
  "prepare": 6,
  "predict": 6,
  "label": 6,
  "annotate": 6,
}

MODULES = sorted(PACKAGE.rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").rglob("*.py"))


def name_of(path: pathlib.Path) -> str:
  return str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")


def room_of(module: str) -> str:
  """The part of a name that has a floor: 'ops' of 'decern_jax.ops.head'.

  What makes a package a command is on the floor of the commands.
  """
  return "main" if module.endswith(".__main__") else module.split(".")[1]


def imports_of(tree: ast.AST) -> set[str]:
  """Every name that the statements import, `from a import b` as 'a.b'."""
  found = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, "imports are absolute"
      found |= {f"{node.module}.{alias.name}" for alias in node.names}
  return found


def imports_in(path: pathlib.Path) -> set[str]:
  return imports_of(ast.parse(path.read_text()))


def own_imports(path: pathlib.Path) -> set[str]:
  return {name for name in imports_in(path) if name.startswith("decern_jax.")}


class TestFloors:
  def test_every_module_has_one(self):
    rooms = {
      path.stem if path.suffix else path.name
      for path in PACKAGE.iterdir()
      if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert rooms - {"__init__"} == set(FLOORS)

  @pytest.mark.parametrize("path", MODULES, ids=name_of)
  def test_imports_point_downwards(self, path):
    if path == PACKAGE / "__init__.py":
      return
    room = room_of(name_of(path))
    for name in own_imports(path):
      other = room_of(name)
      is_lower = FLOORS[other] < FLOORS[room]
      assert is_lower or other == room, f"{room} imports {name}"

  def test_a_violation_would_be_seen(self):
    source = "def f():\n  from decern_jax import training as t\n  return t"
    (name,) = imports_of(ast.parse(source))
    assert FLOORS[room_of(name)] > FLOORS["models"]

  def test_operations_import_jax_and_numpy_alone(self):
    outside = {
      name.split(".")[0]
      for path in (PACKAGE / "ops").rglob("*.py")
      for name in imports_in(path)
    }
    outside -= {"decern_jax", *sys.stdlib_module_names}
    assert outside == {"jax", "jaxtyping", "numpy"}

  @pytest.mark.parametrize("path", MODULES, ids=name_of)
  def test_nothing_imports_configurations_or_tests(self, path):
    roots = {name.split(".")[0] for name in imports_in(path)}
    assert not roots & {"configs", "tests", "benchmarks"}

  def test_configurations_are_read_by_the_experiment_alone(self):
    readers = {
      name_of(path)
      for path in MODULES
      if any(name.startswith("ml_collections") for name in imports_in(path))
    }
    assert readers <= {"decern_jax.cli.config_flag", "decern_jax.compare"}

  @pytest.mark.parametrize("path", CONFIGS, ids=name_of)
  def test_configurations_import_the_common_ones_alone(self, path):
    common = ("configs.common", "configs.pretrain_common")
    for name in imports_in(path):
      assert name.startswith("ml_collections") or name in common


class TestImporting:
  @pytest.mark.parametrize("path", MODULES, ids=name_of)
  def test_no_module_imports_tensorflow_at_its_top(self, path):
    top = ast.parse(path.read_text()).body
    plain = [n for n in top if isinstance(n, ast.Import | ast.ImportFrom)]
    names = imports_of(ast.Module(plain, []))
    assert not any(name.split(".")[0] == "tensorflow" for name in names)

  @pytest.mark.parametrize("path", MODULES, ids=name_of)
  def test_no_module_changes_the_configuration_of_jax(self, path):
    assert "jax.config.update(" not in path.read_text()

  def run(self, script: str) -> str:
    done = subprocess.run(
      [sys.executable, "-c", script],
      cwd=ROOT,
      capture_output=True,
      text=True,
      timeout=120,
      check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

  def test_touches_no_device_and_no_tensorflow(self):
    names = [
      name_of(path).removesuffix(".__init__")
      for path in MODULES
      if path.name != "__main__.py"
    ]
    script = f"""
import importlib, sys
import decern_jax
from jax._src import xla_bridge
assert not xla_bridge._backends, "decern_jax"
for name in {names!r}:
  importlib.import_module(name)
  assert not xla_bridge._backends, name
  assert "tensorflow" not in sys.modules, name
import jax
jax.devices()
assert xla_bridge._backends, "the check sees backends"
print("done")
"""
    assert self.run(script) == "done\n"
