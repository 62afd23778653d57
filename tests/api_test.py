"""The conventions of the public functions, and the strictness of the tests."""

import importlib
import inspect
import pkgutil
import re

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import decern_jax
from decern_jax.ops import discrepancy
from decern_jax.ops import head as linear
from decern_jax.ops.head import LinearHead
from tests.table import each

# Modules whose public functions come from no single publication.
GENERAL = ("decern_jax.strategies.api", "decern_jax.strategies.base")
PUBLIC = [getattr(decern_jax, name) for name in decern_jax.__all__]
FUNCTIONS = [item for item in PUBLIC if inspect.isfunction(item)]
CLASSES = [item for item in PUBLIC if inspect.isclass(item)]
TUPLES = [item for item in CLASSES if issubclass(item, tuple)]


def own_functions() -> list:
  """All public functions of the package."""
  found = []
  walked = pkgutil.walk_packages(decern_jax.__path__, "decern_jax.")
  for info in walked:
    module = importlib.import_module(info.name)
    for name, item in vars(module).items():
      function = inspect.unwrap(item) if callable(item) else item
      is_own = getattr(function, "__module__", None) == info.name
      if inspect.isfunction(function) and is_own and name[0] != "_":
        found.append(function)
  return found


OWN = own_functions()


def name_of(item) -> str:
  return f"{item.__module__.removeprefix('decern_jax.')}.{item.__name__}"


def sections(item) -> dict[str, str]:
  """The sections of a docstring, by name; the text before them is ''."""
  parts = re.split(r"^(\w+):$", inspect.getdoc(item) or "", flags=re.MULTILINE)
  return dict(zip(["", *parts[1::2]], [parts[0], *parts[2::2]], strict=True))


def documented(section: str) -> list[str]:
  """The names that a section describes."""
  return re.findall(r"^  \**(\w+): \S", section, flags=re.MULTILINE)


class TestPublicNames:
  def test_are_those_of_the_specification(self):
    assert sorted(decern_jax.__all__) == [
      "Anchors",
      "Clusters",
      "LinearHead",
      "Loop",
      "Pool",
      "PoolGraph",
      "Selection",
      "Strategy",
      "calibrated_pick",
      "class_anchors",
      "discrepancy_confusion",
      "get_strategy",
      "list_strategies",
      "make_graph",
      "propagate",
      "register",
      "saliency_mask",
      "score",
      "select",
      "select_decern",
      "uncertainty_threshold",
      "weighted_kmeans",
    ]

  def test_are_functions_named_tuples_or_classes(self):
    assert len(FUNCTIONS) + len(CLASSES) == len(PUBLIC)
    assert {*CLASSES} - {*TUPLES} == {
      decern_jax.Loop,
      decern_jax.Pool,
      decern_jax.Selection,
      decern_jax.Strategy,
    }
    assert LinearHead._fields == ("kernel", "bias")
    assert decern_jax.Anchors._fields == ("features", "probs")
    fields = "centers", "assignments", "inertia", "num_steps"
    assert decern_jax.Clusters._fields == fields

  @each("item", TUPLES)
  def test_every_field_is_documented(self, item):
    assert documented(sections(item)["Attributes"]) == list(item._fields)

  @each("function", FUNCTIONS)
  def test_docstring_has_all_sections(self, function):
    found = sections(function)
    summary = found[""].split("\n")[0]
    assert re.fullmatch(r"[A-Z]\w+s .*\.", summary)
    has_parameters = bool(inspect.signature(function).parameters)
    assert {"Args", "Returns", "Raises"} <= set(found) or not has_parameters
    # What comes from the paper names it.
    is_general = function.__module__ in GENERAL
    assert "References" in found or is_general

  @each("function", FUNCTIONS)
  def test_options_are_keywords_with_types(self, function):
    for parameter in inspect.signature(function).parameters.values():
      is_rest = parameter.kind == inspect.Parameter.VAR_KEYWORD
      assert parameter.annotation is not inspect.Parameter.empty or is_rest
      is_option = parameter.kind == inspect.Parameter.KEYWORD_ONLY
      assert is_option or parameter.default is inspect.Parameter.empty


class TestEveryFunction:
  def test_was_found(self):
    assert len(OWN) > 80
    assert {name_of(function) for function in FUNCTIONS} <= {
      name_of(function) for function in OWN
    }

  def test_has_a_docstring(self):
    assert [name_of(f) for f in OWN if not inspect.getdoc(f)] == []

  def test_documents_its_parameters_in_order(self):
    found = []
    for function in OWN:
      args = sections(function).get("Args")
      names = list(inspect.signature(function).parameters)
      if args is not None and documented(args) != names:
        found.append((name_of(function), documented(args), names))
    assert found == []

  def test_key_comes_first_and_is_required(self):
    found = []
    for function in OWN:
      parameters = inspect.signature(function).parameters
      keys = [
        name
        for name, parameter in parameters.items()
        if name == "key" or "Key[" in str(parameter.annotation)
      ]
      # `open_store` takes the key of a cache; `select` and `score` take a seed
      # or, in its place, a key.
      exempt = ("open_store", "api.select", "api.score")
      if not keys or name_of(function).endswith(exempt):
        continue
      default = parameters[keys[0]].default
      is_first = keys == [next(iter(parameters))] == ["key"]
      if not is_first or default is not inspect.Parameter.empty:
        found.append(name_of(function))
    assert found == []

  def test_what_has_a_default_is_a_keyword(self):
    found = []
    for function in OWN:
      parameters = list(inspect.signature(function).parameters.values())
      # The only argument of a function needs no name.
      found += [
        (name_of(function), parameter.name)
        for parameter in (parameters if len(parameters) > 1 else [])
        if parameter.default is not inspect.Parameter.empty
        and parameter.kind != inspect.Parameter.KEYWORD_ONLY
      ]
    assert found == []


class TestStrictness:
  def test_annotations_are_checked_while_tests_run(self):
    head = LinearHead(jnp.ones((3, 2)), jnp.ones(2))
    with pytest.raises(jaxtyping.TypeCheckError, match="logits"):
      linear.logits(head, jnp.arange(3))
    with pytest.raises(jaxtyping.TypeCheckError, match="split_bins"):
      discrepancy.split_bins(jnp.ones(3), 2)
    with pytest.raises(jaxtyping.TypeCheckError, match="class_anchors"):
      decern_jax.class_anchors(
        jnp.ones((3, 2)), jnp.ones((4, 2)), jnp.zeros(3, int), num_classes=2
      )

  @each(
    "call",
    [
      lambda: decern_jax.uncertainty_threshold(np.ones((2, 2))),
      lambda: decern_jax.weighted_kmeans(
        jax.random.key(0), np.ones((3, 2)), np.ones(2), num_clusters=1
      ),
    ],
  )
  def test_annotations_of_public_functions_are_checked_too(self, call):
    with pytest.raises(jaxtyping.TypeCheckError):
      call()

  @pytest.mark.usefixtures("unannotated")
  def test_annotations_can_be_left_out(self):
    with pytest.raises(ValueError, match=r"got \(2, 2\)"):
      decern_jax.uncertainty_threshold(np.ones((2, 2)))

  def test_types_and_ranks_are_not_promoted(self):
    with pytest.raises(jax.dtypes.TypePromotionError, match="strict"):
      jnp.ones(2, jnp.float32) + jnp.ones(2, jnp.int32)
    with pytest.raises(ValueError, match="rank"):
      jnp.ones((2, 2)) + jnp.ones(2)

  def test_eight_devices_are_simulated(self):
    assert jax.device_count() == 8
