"""Tests of decern_jax/training/finetune.py, on tiny images."""

import dataclasses
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax.distributed.sharding import make_mesh
from decern_jax.training import finetune
from tests import tasks, tiny
from tests.table import each
from tests.training import finetuned
from tests.training.finetuned import (
  NARROW,
  PLAIN,
  assert_close,
  assert_same,
  fit,
  make_state,
)


@pytest.fixture
def setup() -> finetune.Setup:
  """Of a network with batch normalisation."""
  return finetuned.make_setup(NARROW)


class TestFit:
  @each("name", [NARROW, PLAIN])
  def test_trains_what_the_mask_says(self, name):
    setup = finetuned.make_setup(name)
    params = finetuned.fitted(name).variables["params"]
    before, trains, after = map(
      traverse_util.flatten_dict,
      (setup.backbone.variables["params"], setup.mask, params),
    )
    assert set(after) == set(before)
    assert len(set(trains.values())) == 2
    for path, leaf in after.items():
      changed = (np.asarray(leaf) != np.asarray(before[path])).any()
      assert changed == trains[path], path

  def test_moves_running_statistics_where_there_are_any(self):
    setup, model = finetuned.make_setup(NARROW), finetuned.fitted(NARROW)
    jax.tree.map(
      lambda ours, theirs: np.testing.assert_array_less(
        0, np.abs(ours - theirs).max()
      ),
      model.variables["batch_stats"],
      dict(setup.backbone.variables["batch_stats"]),
    )
    assert set(finetuned.fitted(PLAIN).variables) == {"params"}

  def test_keeps_frozen_statistics(self, setup, tmp_path):
    model = fit(
      dataclasses.replace(setup, use_batch_statistics=False), tmp_path
    )
    jax.tree.map(
      np.testing.assert_array_equal,
      model.variables["batch_stats"],
      dict(setup.backbone.variables["batch_stats"]),
    )

  def test_starts_from_the_same_parameters_in_every_round(
    self, setup, tmp_path
  ):
    """A first epoch of one batch, of images that are always seen alike."""
    steady = dataclasses.replace(
      setup, augment=lambda image, rng: image[:, : tiny.SIZE]
    )
    models = [
      fit(steady, tmp_path, make_state(i, num_labeled=8)) for i in (0, 3)
    ]
    first, other = (model.losses[0] for model in models)
    # The orders of the images differ, and so does the rounding, or not.
    np.testing.assert_allclose(first, other, rtol=1e-5)

  def test_sees_each_image_once_in_an_epoch_with_its_own_label(
    self, setup, tmp_path, monkeypatch
  ):
    seen, step = [], finetune.train_step

    def note(state, fixed, images, labels, *args, **options):
      seen.append((np.asarray(images), np.asarray(labels)))
      return step(state, fixed, images, labels, *args, **options)

    monkeypatch.setattr(finetune, "train_step", note)
    steady = dataclasses.replace(
      setup, augment=lambda image, rng: image[:, : tiny.SIZE]
    )
    fit(steady, tmp_path)
    assert len(seen) == finetuned.NUM_EPOCHS * finetuned.STEPS_OF_EPOCH
    train = setup.train
    label_of = {
      train.read(i)[:, : tiny.SIZE].tobytes(): int(train.labels[i])
      for i in np.flatnonzero(make_state().labeled)
    }
    for epoch in range(finetuned.NUM_EPOCHS):
      batches = seen[2 * epoch : 2 * epoch + 2]
      keys = [image.tobytes() for images, _ in batches for image in images]
      labels = [int(label) for _, batch in batches for label in batch]
      assert [label_of[key] for key in keys] == labels
      assert len(set(keys)) == len(keys)

  @each("num_labeled", [8, 20])
  def test_takes_as_many_steps_as_it_is_told(
    self, setup, tmp_path, monkeypatch, num_labeled
  ):
    """However many labels there are; an example still comes once in a pass."""
    seen, step = [], finetune.train_step

    def note(state, fixed, images, labels, num_batches, **options):
      seen.append([image.tobytes() for image in np.asarray(images)])
      assert num_batches == 3
      return step(state, fixed, images, labels, num_batches, **options)

    monkeypatch.setattr(finetune, "train_step", note)
    steady = dataclasses.replace(
      setup,
      augment=lambda image, rng: image[:, : tiny.SIZE],
      recipe=dataclasses.replace(setup.recipe, steps_per_epoch=3),
    )
    fit(steady, tmp_path, make_state(num_labeled=num_labeled))
    assert len(seen) == 3 * finetuned.NUM_EPOCHS
    size = setup.recipe.batch_size
    per_pass = num_labeled // size
    for start in range(0, len(seen) - per_pass + 1, per_pass):
      images = sum(seen[start : start + per_pass], [])
      assert len(set(images)) == len(images) == per_pass * size

  def test_differs_by_round_and_seed(self, setup, tmp_path):
    models = [
      finetuned.fitted(NARROW),
      fit(setup, tmp_path / "a", make_state(1)),
      fit(setup, tmp_path / "b", seed=finetuned.SEED + 1),
    ]
    assert len({tuple(model.losses) for model in models}) == 3

  @each("num_workers", [1, 5])
  def test_is_independent_of_the_number_of_threads(
    self, setup, tmp_path, num_workers
  ):
    found = fit(dataclasses.replace(setup, num_workers=num_workers), tmp_path)
    assert_same(found, finetuned.fitted(NARROW))

  @each("num_devices", [8, 3])
  def test_is_independent_of_shard_count(self, setup, tmp_path, num_devices):
    """Also where the 8 images of a batch do not divide by the devices."""
    found = fit(
      dataclasses.replace(setup, mesh=make_mesh(num_devices)), tmp_path
    )
    assert_close(found, finetuned.fitted(NARROW))

  def test_compiles_nothing_new_in_a_later_round(self, setup, tmp_path):
    fit(setup, tmp_path / "first")
    with tasks.compilations() as compiled:
      fit(setup, tmp_path / "second", make_state(3), seed=finetuned.SEED + 1)
    assert compiled == []

  @each("checkpoint_seconds", [0.0, 3600.0])
  def test_refuses_a_loss_that_is_not_finite(
    self, setup, tmp_path, checkpoint_seconds
  ):
    variables = jax.tree.map(
      lambda leaf: jnp.full_like(leaf, np.nan), setup.backbone.variables
    )
    backbone = setup.backbone._replace(variables=variables)
    bad = dataclasses.replace(
      setup, backbone=backbone, checkpoint_seconds=checkpoint_seconds
    )
    message = r"loss became nan in epoch 0 of round 2; .*learning_rate"
    with pytest.raises(RuntimeError, match=message):
      fit(bad, tmp_path, make_state(2))
    assert finetuned.saved_epochs(tmp_path, 2) == []

  def test_names_an_image_that_cannot_be_read(self, setup, tmp_path):
    def fail(image, rng):
      raise OSError("no such disk")

    with pytest.raises(RuntimeError, match=r"Example 'train/.*no such disk"):
      fit(dataclasses.replace(setup, augment=fail), tmp_path)


class TestEmbed:
  def test_is_asked_with_the_trained_variables(self, setup, tmp_path):
    asked = []

    def embed(variables, wanted) -> dict[str, Any]:
      asked.append((variables, wanted))
      return {"test": "part"}

    made = finetune.make_learner(
      setup, embed, seed=finetuned.SEED, workdir=tmp_path
    )
    model, wanted = finetuned.fitted(NARROW), np.ones(32, bool)
    assert made.embed(model, wanted) == {"test": "part"}
    ((variables, mask),) = asked
    assert variables is model.variables
    assert mask is wanted


class TestFinish:
  def test_removes_the_folder(self, setup, tmp_path):
    fit(setup, tmp_path)
    (tmp_path / "records.jsonl").write_text("")
    assert (tmp_path / finetune.FOLDER).is_dir()
    for _ in range(2):
      finetune.finish(tmp_path)
      assert [path.name for path in tmp_path.iterdir()] == ["records.jsonl"]
