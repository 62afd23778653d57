"""Tests of decern_jax/runs/pretraining_check.py."""

import pytest

from configs import pretrain_common
from decern_jax.runs import pretraining_check
from tests.table import each


def make_config(**changes):
  config = pretrain_common.get_config()
  config.dataset.name = "rendered"
  changes = {name.replace("__", "."): value for name, value in changes.items()}
  config.update_from_flattened_dict(changes)
  return config.lock()


class TestCheck:
  @each("objective", ["simclr", "barlow_twins", "moco_v2"])
  def test_accepts_the_defaults(self, objective):
    pretraining_check.check(make_config(pretrain__objective=objective))

  @each(
    "change, message",
    [
      (
        {"pretrain__objective": "byol"},
        r"Unknown objective 'byol'; expected one of \['barlow_twins', 'moco",
      ),
      ({"train__optimizer": "sgd"}, "Unknown optimizer 'sgd'"),
      ({"dataset__name": "imagenet"}, "Unknown dataset 'imagenet'"),
      ({"model__name": "resnet19"}, "Unknown model 'resnet19'"),
      ({"model__dtype": "float16"}, "Unknown dtype 'float16'"),
      ({"dataset__interpolation": "no"}, "Unknown interpolation 'no'"),
      ({"seed": -1}, "0 <= `seed` <= 4294967295, got -1"),
      ({"dataset__image_size": 16}, "32 <= `dataset.image_size`, got 16"),
      ({"dataset__resize_size": 60}, "64 <= `dataset.resize_size`, got 60"),
      ({"pretrain__temperature": 0.0}, "<= `pretrain.temperature`.*got 0.0"),
      ({"pretrain__temperature": -0.2}, "`pretrain.temperature`.*got -0.2"),
      ({"pretrain__off_diagonal_weight": -1.0}, "off_diagonal_weight`"),
      ({"pretrain__momentum": 1.5}, "`pretrain.momentum` <= 1.0, got 1.5"),
      ({"pretrain__queue_size": 0}, "1 <= `pretrain.queue_size`, got 0"),
      ({"pretrain__projector": (64, 0)}, "1 <= `pretrain.projector`, got 0"),
      ({"train__batch_size": 1}, "2 <= `train.batch_size`, got 1"),
      ({"train__num_epochs": 0}, "1 <= `train.num_epochs`, got 0"),
      ({"train__warmup_epochs": 300}, "`train.warmup_epochs` <= 200, got 300"),
      ({"train__learning_rate": 0.0}, "`train.learning_rate`.*got 0.0"),
      ({"train__weight_decay": -1.0}, "`train.weight_decay`.*got -1.0"),
      ({"views__min_area": 0.0}, "`views.min_area` <= 1.0, got 0.0"),
      ({"probe__every_epochs": -1}, "0 <= `probe.every_epochs`, got -1"),
      ({"probe__num_examples": 1}, "2 <= `probe.num_examples`, got 1"),
      ({"probe__num_neighbors": 0}, "1 <= `probe.num_neighbors`, got 0"),
      ({"probe__temperature": 0.0}, "`probe.temperature`.*got 0.0"),
      ({"system__num_workers": 0}, "1 <= `system.num_workers`, got 0"),
      ({"system__num_devices": 0}, "1 <= `system.num_devices`, got 0"),
      ({"system__embed_batch_size": 0}, "`system.embed_batch_size`, got 0"),
      ({"system__checkpoint_seconds": -1.0}, "checkpoint_seconds`.*got -1.0"),
    ],
  )
  def test_rejects_values_out_of_range(self, change, message):
    with pytest.raises(ValueError, match=message):
      pretraining_check.check(make_config(**change))

  def test_rejects_a_queue_that_is_no_multiple_of_the_batch(self):
    change = {"pretrain__objective": "moco_v2", "pretrain__queue_size": 1000}
    message = "`pretrain.queue_size` a multiple of the 128 .*, got 1000"
    with pytest.raises(ValueError, match=message):
      pretraining_check.check(make_config(**change))
    del change["pretrain__objective"]
    pretraining_check.check(make_config(**change))

  def test_rejects_groups_that_do_not_divide_the_batch(self):
    change = {"pretrain__objective": "moco_v2", "pretrain__norm_groups": 3}
    message = "`train.batch_size` a multiple of the 3 .*, got 128"
    with pytest.raises(ValueError, match=message):
      pretraining_check.check(make_config(**change))


class TestProjector:
  @each(
    "objective, widths, use_norm",
    [
      ("simclr", (2048, 128), True),
      ("barlow_twins", (2048, 2048, 2048), True),
      ("moco_v2", (2048, 128), False),
    ],
  )
  def test_is_the_published_one(self, objective, widths, use_norm):
    found = pretraining_check.projector(
      make_config(pretrain__objective=objective)
    )
    assert (found.widths, found.use_norm) == (widths, use_norm)

  def test_has_other_widths_if_they_are_set(self):
    found = pretraining_check.projector(
      make_config(pretrain__projector=(64, 32))
    )
    assert found.widths == (64, 32)


class TestStepsPerEpoch:
  def count(self, num_examples, num_devices=1):
    return pretraining_check.steps_per_epoch(
      make_config(), num_examples=num_examples, num_devices=num_devices
    )

  @each("num_examples, steps", [(128, 1), (255, 1), (256, 2)])
  def test_drops_what_fills_no_batch(self, num_examples, steps):
    assert self.count(num_examples) == steps

  def test_rejects_a_batch_larger_than_the_pool(self):
    message = "`train.batch_size` <= 127 training images, got 128"
    with pytest.raises(ValueError, match=message):
      self.count(127)

  def test_rejects_a_batch_that_does_not_divide_by_the_devices(self):
    message = "`train.batch_size` a multiple of the 3 of `devices`, got 128"
    with pytest.raises(ValueError, match=message):
      self.count(300, num_devices=3)


class TestRecipe:
  def test_holds_what_is_set(self):
    found = pretraining_check.recipe(make_config(), steps_per_epoch=7)
    assert found.num_steps == 200 * 7
    assert found.warmup_epochs == 10
