"""The floors of the house: which rooms there are, and which import which."""

import ast
import pathlib
import re
import sys

from tests import tiny

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "decern_jax"

# A room imports from lower floors, and from rooms beside it unless these need
# it in turn.
FLOORS = (
  ("distributed", "io"),
  ("ops",),
  ("data", "features", "models"),
  ("pretraining", "strategies", "training"),
  ("runs",),
  ("annotation", "compile_check", "report"),
  ("cli",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

MODULES = sorted(PACKAGE.rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").rglob("*.py"))


def name_of(path: pathlib.Path) -> str:
  return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def is_entrance(path: pathlib.Path) -> bool:
  """Whether a module is the package's API or an alias of a command."""
  return path.parent == PACKAGE or path.name == "__main__.py"


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


def edges() -> dict[tuple[str, str], list[str]]:
  """The modules that import from another room, by both rooms."""
  found = {}
  for path in MODULES:
    if is_entrance(path):
      continue
    room = name_of(path).split(".")[1]
    for name in imports_in(path):
      other = name.split(".")[1] if name.startswith("decern_jax.") else room
      if other != room:
        found.setdefault((room, other), []).append(f"{name_of(path)}: {name}")
  return found


class TestFloors:
  def test_rooms_are_those_of_the_floors(self):
    rooms = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").is_file()}
    assert rooms == set(FLOOR_OF)

  def test_outside_of_rooms_are_entrances_only(self):
    longest = 12
    files = [p for p in MODULES if is_entrance(p) and p.name != "__init__.py"]
    assert [p for p in files if len(p.read_text().splitlines()) > longest] == []

  def test_imports_point_downwards(self):
    upwards = {
      rooms: where
      for rooms, where in edges().items()
      if FLOOR_OF.get(rooms[1], 99) > FLOOR_OF[rooms[0]]
    }
    assert upwards == {}

  def test_rooms_beside_each_other_form_no_circle(self):
    beside = {
      rooms for rooms in edges() if FLOOR_OF[rooms[0]] == FLOOR_OF[rooms[1]]
    }
    needed = set(beside)
    while True:
      more = {(a, d) for a, b in needed for c, d in beside if b == c} - needed
      if not more:
        break
      needed |= more
    assert {rooms for rooms in needed if rooms[0] == rooms[1]} == set()

  def test_a_violation_would_be_seen(self):
    source = "def f():\n  from decern_jax import runs as r\n  return r"
    (name,) = imports_of(ast.parse(source))
    assert FLOOR_OF[name.split(".")[1]] > FLOOR_OF["models"]

  def test_operations_import_jax_and_numpy_alone(self):
    outside = {
      name.split(".")[0]
      for path in (PACKAGE / "ops").rglob("*.py")
      for name in imports_in(path)
    }
    outside -= {"decern_jax", *sys.stdlib_module_names}
    assert outside == {"jax", "jaxtyping", "numpy"}

  def test_nothing_imports_configurations_or_tests(self):
    found = {
      (name_of(path), name)
      for path in MODULES
      for name in imports_in(path)
      if name.startswith(
        ("configs", "decern_jax.configs", "tests", "benchmarks")
      )
    }
    assert found == set()

  def test_only_commands_handle_configuration_files(self):
    readers = {
      name_of(path)
      for path in MODULES
      if any(name.startswith("ml_collections") for name in imports_in(path))
    }
    assert readers <= {"decern_jax.cli.config_flag", "decern_jax.cli.compare"}

  def test_configurations_import_only_the_common_ones(self):
    """And the strategies, which declare their own options with defaults."""
    common = ("decern_jax.configs.common", "decern_jax.configs.pretrain_common")
    declared = ("configs.common", "decern_jax.strategies")
    found = {
      (name_of(path), name)
      for path in CONFIGS
      for name in imports_in(path)
      if not name.startswith(("ml_collections", "typing."))
      and name not in common
      and (name_of(path), name) != declared
    }
    assert found == set()


class TestReadme:
  def test_map_is_that_of_the_code(self):
    rows = re.findall(
      r"^\| (\d) \| `(\w+)/` \| (.*) \|$",
      (ROOT / "README.md").read_text(),
      flags=re.MULTILINE,
    )
    expected = []
    for floor in reversed(range(len(FLOORS))):
      for room in FLOORS[floor]:
        tree = ast.parse((PACKAGE / room / "__init__.py").read_text())
        docstring = ast.get_docstring(tree)
        assert docstring is not None
        expected.append((str(floor), room, docstring.split("\n")[0]))
    assert rows == expected


class TestImporting:
  def test_no_module_imports_tensorflow_at_its_top(self):
    found = []
    for path in MODULES:
      top = ast.parse(path.read_text()).body
      plain: list[ast.stmt] = [
        n for n in top if isinstance(n, ast.Import | ast.ImportFrom)
      ]
      names = imports_of(ast.Module(plain, []))
      if any(name.split(".")[0] == "tensorflow" for name in names):
        found.append(name_of(path))
    assert found == []

  def test_no_module_changes_the_configuration_of_jax(self):
    found = [
      name_of(path)
      for path in MODULES
      if "jax.config.update(" in path.read_text()
    ]
    assert found == []

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
    assert tiny.run_script(script) == "done\n"
