"""Tests of whole runs that fine-tune, from a configuration to a model."""

import functools
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from decern_jax import models
from decern_jax.data import augmentation, transforms
from decern_jax.features import embedding
from decern_jax.ops.head import logits
from decern_jax.runs import check, driver, experiment, model_file, records
from decern_jax.runs.config import Config
from decern_jax.training import finetune, rounds
from tests import networks, tasks, tiny
from tests.table import each
from tests.training import finetuned

NUM_ROUNDS, BUDGET, NUM_CANDIDATES = 3, 4, 10
SEED = 1


class Run:
  """A configuration, and runs of it.

  Attributes:
    asked: Of every part that was embedded, its name and how many images.
  """

  def __init__(self, folder, **changes):
    config = tiny.make_config(
      folder / "data",
      folder / "weights.safetensors",
      folder / "cache",
      num_rounds=NUM_ROUNDS,
      model__name=networks.NAME,
      selection__strategy="decern",
      selection__num_candidates=NUM_CANDIDATES,
      train__augment=True,
      train__num_epochs=2,
      train__warmup_epochs=1,
      train__batch_size=4,
      system__num_devices=1,
      system__checkpoint_seconds=0.0,
      **changes,
    )
    self.config = cast(Config, config)
    check.check(self.config)
    self.assets = experiment.load(self.config)
    self.asked: list[tuple[str, int]] = []

  def __call__(self, workdir) -> rounds.RoundState:
    return driver.run(
      experiment.build(self.config, self.assets, seed=SEED, workdir=workdir),
      num_rounds=NUM_ROUNDS,
      workdir=workdir,
    )

  def run_and_note(self, workdir) -> rounds.RoundState:
    """Runs, and notes what is embedded."""
    embed_split = embedding.embed_split

    def note(apply, variables, split, *args, name, indices, **options):
      self.asked.append((name, len(indices)))
      return embed_split(
        apply,
        variables,
        split,
        *args,
        name=name,
        indices=indices,
        **options,
      )

    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(embedding, "embed_split", note)
      return self(workdir)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  tiny.write_image_folder(folder / "data")
  tiny.write_weights(folder / "weights.safetensors", networks.Network())
  with networks.in_table():
    yield folder


@pytest.fixture(scope="module")
def published(folder) -> Run:
  return Run(folder, train__scope="published")


@pytest.fixture(scope="module")
def finished(published, tmp_path_factory):
  """The workdir and the last state of a run that nobody stopped."""
  workdir = tmp_path_factory.mktemp("finished")
  return workdir, published.run_and_note(workdir)


def load_model(run: Run, workdir) -> models.Backbone:
  return models.create(
    run.config.model.name,
    weights=workdir / model_file.FILE_NAME,
    image_size=tiny.SIZE,
  )


def without_seconds(workdir) -> str:
  return tasks.without_seconds(records.read(workdir))


class TestPublishedScope:
  def test_has_a_record_of_every_round(self, finished):
    workdir, state = finished
    found = records.read(workdir)
    assert [r["num_labeled"] for r in found] == [4, 8, 12]
    assert [len(r["selected"]) for r in found] == [4, 4, 0]
    assert [len(r["train"]["epoch_losses"]) for r in found] == [2] * 3
    assert int(state.round) == NUM_ROUNDS

  def test_embeds_only_what_it_needs(self, published, finished):
    """Candidates and what is labeled; the last round selects nothing."""
    num_test = len(published.assets.dataset.test.ids)
    expected = [
      *(("train", NUM_CANDIDATES + 4), ("test", num_test)),
      *(("train", NUM_CANDIDATES + 8), ("test", num_test)),
      ("test", num_test),
    ]
    assert published.asked == expected

  def test_model_is_what_the_last_round_trains(
    self, published, finished, tmp_path
  ):
    """Trained once more, from the labels of the last round alone."""
    workdir, state = finished
    config, assets = published.config, published.assets
    setup = finetune.Setup(
      backbone=assets.backbone,
      mask=models.trainable_mask(
        networks.NAME, assets.backbone.variables["params"], "published"
      ),
      use_batch_statistics=False,
      num_classes=len(tiny.CLASSES),
      train=assets.dataset.train,
      augment=functools.partial(
        augmentation.random_resized_crop_and_flip, image_size=tiny.SIZE
      ),
      recipe=experiment.make_recipe(config),
      mesh=assets.mesh,
      num_workers=1,
      checkpoint_seconds=3600.0,
    )
    made = finetune.make_learner(
      setup, lambda variables, wanted: {}, seed=SEED, workdir=tmp_path
    )
    last = rounds.make_state(NUM_ROUNDS - 1, np.array(state.labeled_at))
    expected = made.fit(last)
    found = load_model(published, workdir)
    jax.tree.map(
      np.testing.assert_array_equal, found.variables, expected.variables
    )
    jax.tree.map(np.testing.assert_array_equal, found.head, expected.head)
    record = records.read(workdir)[-1]
    np.testing.assert_array_equal(
      np.float32(record["train"]["epoch_losses"]), expected.losses
    )

  def test_model_has_the_accuracy_of_the_last_record(self, published, finished):
    workdir, _ = finished
    model, test = load_model(published, workdir), published.assets.dataset.test
    assert model.head is not None
    images = np.stack(
      [
        transforms.resize_and_center_crop(
          test.read(position), resize_size=tiny.SIZE, image_size=tiny.SIZE
        )
        for position in range(len(test.ids))
      ]
    )
    features = model.apply(model.variables, jnp.asarray(images))
    outputs = logits(model.head, features)
    correct = np.asarray(outputs).argmax(axis=1) == test.labels
    last = records.read(workdir)[-1]
    assert last["test"]["accuracy"] == correct.mean()

  def test_leaves_nothing_of_the_rounds(self, finished):
    names = {path.name for path in finished[0].iterdir()}
    assert names == {"checkpoints", records.FILE_NAME, model_file.FILE_NAME}

  @each("num_steps", [1, 2 + 4 + 5])
  def test_stopped_inside_a_round_ends_as_the_uninterrupted(
    self, published, finished, tmp_path, num_steps
  ):
    """The rounds have 1, 2 and 3 steps in each of 2 epochs."""
    with finetuned.stopped_before_step(num_steps):
      published(tmp_path)
    assert (tmp_path / finetune.FOLDER).is_dir()
    published(tmp_path)
    assert without_seconds(tmp_path) == without_seconds(finished[0])
    name = model_file.FILE_NAME
    assert (tmp_path / name).read_bytes() == (finished[0] / name).read_bytes()


class TestHeadScope:
  def test_augments_in_training_and_embeds_from_the_cache(
    self, folder, tmp_path
  ):
    run = Run(folder, train__scope="head")
    run.run_and_note(tmp_path)
    assert run.asked == []
    found = load_model(run, tmp_path)
    backbone = run.assets.backbone
    jax.tree.map(
      np.testing.assert_array_equal, found.variables, backbone.variables
    )
    lengths = [len(r["selected"]) for r in records.read(tmp_path)]
    assert lengths == [BUDGET, BUDGET, 0]
