"""Tests of decern_jax/compile_check/round_programs.py."""

import functools
import inspect

import jax
from jax import core
import numpy as np
import pytest

from decern_jax.compile_check import (
  program,
  round_programs,
  run_setting,
  topology,
)
from decern_jax.distributed import sharding
from decern_jax.features import embedding as features
from decern_jax.models.backbones import small_cnn
from decern_jax.runs import experiment
from decern_jax.strategies import decern
from decern_jax.training import evaluation, finetune, head
from tests import tiny
from tests.table import each

# Where a run finds the function of each program.
PLACES = {
  "step of training": (finetune, "train_step"),
  "training of the head": (head, "fit_head"),
  "features of a batch": (features, "embed_batch"),
  "evaluation": (evaluation, "evaluate_head"),
}
SELECT_ARGUMENTS = tuple(
  inspect.signature(decern._select_by_score.__wrapped__).parameters
)
SELECTION = [
  "predict",
  "class anchors",
  "discrepancy confusion",
  "select by score",
]

# The shape of an array stands for the array.
pytestmark = pytest.mark.usefixtures("unannotated")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("programs")
  tiny.write_image_folder(folder / "data", num_train=9, num_test=5)
  tiny.write_weights(folder / "weights.safetensors")
  return folder


def make_config(folder, **changes):
  return tiny.make_config(
    folder / "data",
    folder / "weights.safetensors",
    folder / "cache",
    **{
      "selection__strategy": "decern",
      "num_rounds": 2,
      "train__num_epochs": 1,
      "train__warmup_epochs": 1,
      "train__batch_size": 8,
      "selection__initial_budget": 16,
      "system__embed_batch_size": 20,
      **changes,
    },
  )


def list_programs(config, *, num_devices: int = 8):
  mesh = topology.make_mesh(f"cpu:{num_devices}")
  setting = run_setting.make_setting(
    config, mesh, device_memory=None, num_train=36, num_test=20, num_classes=4
  )
  return round_programs.list_programs(setting)


def shapes(tree):
  """The shape and the type of each array, in a tree like the arguments."""
  return jax.tree.map(
    lambda leaf: (np.shape(leaf), jax.dtypes.result_type(leaf)), tree
  )


def spans(tree):
  """The shape of a shard of each array that is split."""
  return [
    leaf.sharding.shard_shape(leaf.shape)
    for leaf in jax.tree.leaves(tree)
    if getattr(leaf, "sharding", None) is not None
    and not leaf.sharding.is_fully_replicated
  ]


class TestListPrograms:
  @each(
    "changes, first",
    [
      ({}, "training of the head"),
      ({"train__augment": True}, "step of training"),
      ({"train__scope": "published"}, "step of training"),
      ({"train__scope": "all"}, "step of training"),
    ],
  )
  def test_trains_as_the_configuration_says(self, folder, changes, first):
    listed = list_programs(make_config(folder, **changes))
    assert [item.name for item in listed] == [
      first,
      "features of a batch",
      "evaluation",
      *SELECTION,
    ]

  def test_leaves_out_the_selection_of_other_strategies(self, folder):
    listed = list_programs(make_config(folder, selection__strategy="badge"))
    assert not {item.name for item in listed} & set(SELECTION)

  @each("scope, num_devices", [("head", 1), ("head", 8), ("published", 8)])
  def test_has_the_arguments_of_a_run(
    self, folder, tmp_path, monkeypatch, scope, num_devices
  ):
    """Only a step of training is compiled; the other programs are traced."""
    monkeypatch.undo()  # of the row before
    config = make_config(
      folder, train__scope=scope, system__num_devices=num_devices
    )
    listed = list_programs(config, num_devices=num_devices)
    calls = {}
    for name, (module, attribute) in PLACES.items():
      function = getattr(module, attribute)
      # Only a step of training decides itself where its results lie.
      run = function if name == "step of training" else make_ones(function)
      monkeypatch.setattr(module, attribute, recorder(calls, name, run))
    call_sharded = sharding.ShardedFunction.__call__

    def note(function, *args, **options):
      leaves = jax.tree.leaves((args, options))
      if any(isinstance(leaf, core.Tracer) for leaf in leaves):
        # A part of another program.
        return call_sharded(function, *args, **options)
      name = function.__name__.strip("_").replace("_", " ")
      calls[name] = (args, options)
      if name == "select by score":
        candidates = np.flatnonzero(args[SELECT_ARGUMENTS.index("valid")])
        return np.int32(candidates[: options["budget"]])
      with sharding.record_calls() as recorded:
        call_sharded(function, *args, **options)
      return ones(recorded[0].result)

    monkeypatch.setattr(sharding.ShardedFunction, "__call__", note)
    # So that features are computed, not read.
    assets = experiment.load(
      make_config(
        folder,
        **{
          "train__scope": scope,
          "system__num_devices": num_devices,
          "system__cache_dir": str(tmp_path / "cache"),
        },
      )
    )
    run = experiment.build(config, assets, seed=1, workdir=tmp_path)
    run.advance(run.init())
    assert set(calls) - {"take"} == {item.name for item in listed}
    for item in listed:
      args, options = calls[item.name]
      assert shapes(args) == shapes(item.args), item.name
      if item.name != "training of the head":  # on one device in a run
        assert spans(args) == spans(item.args), item.name
      assert set(options) == set(item.options), item.name
      for option, value in item.options.items():
        if option not in ("apply", "uncertainty_gamma", "diversity_gamma"):
          assert options[option] == value, (item.name, option)

  @each(
    "batch_size, note",
    [(16, ""), (12, "12 images do not divide over 8 devices")],
  )
  def test_tells_of_a_batch_that_is_not_split(self, folder, batch_size, note):
    config = make_config(
      folder, train__scope="all", train__batch_size=batch_size
    )
    step = list_programs(config)[0]
    assert step.note.startswith(note)
    assert bool(step.note) == bool(note)

  def test_keeps_features_and_weights_resident(self, folder):
    listed = {item.name: item for item in list_programs(make_config(folder))}
    weights = listed["features of a batch"].args[0]
    assert listed["predict"].resident > program_bytes(weights)
    tuned = list_programs(make_config(folder, train__scope="all"))
    assert tuned[-1].resident - listed[
      "select by score"
    ].resident == program_bytes(weights)

  def test_reads_no_weights(self, folder):
    config = make_config(folder, model__weights="no/such/file.safetensors")
    assert len(list_programs(config)) == 7

  def test_compiles_with_a_pool_on_the_host(self, folder):
    config = make_config(folder, system__pool_on_host=True)
    listed = {item.name: item for item in list_programs(config)}
    on_devices = {
      item.name: item for item in list_programs(make_config(folder))
    }
    rows = 5 * small_cnn.FEATURE_DIM * 4
    assert on_devices["evaluation"].resident - listed[
      "evaluation"
    ].resident == (rows - 5 * 4)
    for name in SELECTION:
      figures = program.measure(listed[name])
      scores = listed["discrepancy confusion"]
      assert figures.arguments < rows + 4 * 5 * 20 + program_bytes(
        (scores.args[2:4], scores.args[4])
      )

  def test_every_program_compiles(self, folder):
    for item in list_programs(make_config(folder)):
      assert program.measure(item).total > item.resident


def program_bytes(tree) -> int:
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def ones(shapes):
  """Arrays of ones, placed as their shapes say."""
  return jax.tree.map(
    lambda leaf: jax.device_put(np.ones(leaf.shape, leaf.dtype), leaf.sharding),
    shapes,
  )


def make_ones(function):
  """A function that is traced, and returns ones: nothing is compiled."""
  return lambda *args, **options: ones(
    jax.eval_shape(functools.partial(function, **options), *args)
  )


def recorder(calls: dict, name: str, function):
  """Calls a function, and notes its last arguments."""

  def call(*args, **options):
    # Before the call, which may take over the memory of an argument.
    calls[name] = (args, options)
    return function(*args, **options)

  return call
