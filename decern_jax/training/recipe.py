"""How a model is trained: the optimizer and its schedule of learning rates."""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num
import numpy as np
import optax

METHODS = ("supervised", "logistic", "propagation")
"""How a head is trained on frozen features: by a `Recipe`, as published; by
logistic regression; or by logistic regression with the unlabeled pool."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """How a model is trained: a head, a whole model, or a pre-training.

  Attributes:
    num_epochs: Number of epochs.
    batch_size: Examples in a batch.
    learning_rate: The peak of the learning rate.
    warmup_epochs: Epochs of linear warm-up, at most `num_epochs`.
    warmup_learning_rate: The rate that the warm-up starts from.
    final_learning_rate: The rate that the cosine decay ends at.
    steps_per_epoch: Number of batches in an epoch, in every round. None means
      one pass over the labeled examples.
    optimizer: One of `OPTIMIZERS`.
    weight_decay: Decay of kernels; biases and gains of normalization layers
      have none.
  """

  num_epochs: int
  batch_size: int
  learning_rate: float
  warmup_epochs: int = 0
  warmup_learning_rate: float = 0.0
  final_learning_rate: float = 0.0
  steps_per_epoch: int | None = None
  optimizer: str = "adamw"
  weight_decay: float = 0.0

  @property
  def epoch_steps(self) -> int:
    """The steps of an epoch, where `steps_per_epoch` is given."""
    assert self.steps_per_epoch is not None
    return self.steps_per_epoch

  @property
  def num_steps(self) -> int:
    """The steps of all epochs, where `steps_per_epoch` is given."""
    return self.num_epochs * self.epoch_steps


PUBLISHED = Recipe(
  num_epochs=200,
  batch_size=128,
  learning_rate=1e-3,
  warmup_epochs=5,
  warmup_learning_rate=1e-6,
  final_learning_rate=1e-5,
)
"""How the authors of DECERN train a head on frozen features."""


def learning_rates(
  recipe: Recipe, times: Num[Array, "*times"], *, by_step: bool = False
) -> Float[Array, "*times"]:
  """Returns learning rates: a linear warm-up, then half a cosine.

  By epoch, the rate starts at `warmup_learning_rate` in epoch 0 and reaches its
  peak in the epoch after the warm-up, as published for the head. By step, it
  already reaches its peak in the last step of the warm-up.

  Args:
    recipe: The recipe.
    times: Completed epochs, or completed steps.
    by_step: Whether `times` are steps. This requires `steps_per_epoch`.
  """
  per_epoch = recipe.epoch_steps if by_step else 1
  warmup = recipe.warmup_epochs * per_epoch
  rise = optax.linear_schedule(
    recipe.warmup_learning_rate, recipe.learning_rate, max(1, warmup)
  )
  fall = optax.cosine_decay_schedule(
    recipe.learning_rate,
    max(1, recipe.num_epochs * per_epoch - warmup),
    alpha=recipe.final_learning_rate / recipe.learning_rate,
  )
  # Schedules of optax mix the type of their argument with floats.
  times = jnp.asarray(times, jnp.float32)
  rising = rise(times + 1.0 if by_step else times)
  return jnp.where(times < warmup, rising, fall(times - warmup))


def make_optimizer(
  recipe: Recipe,
) -> optax.GradientTransformationExtraArgs:
  """Makes the optimizer of a recipe.

  Returns:
    The optimizer. Its `update` takes `learning_rate`, float32 [], by keyword.
  """
  return _with_float_counts(OPTIMIZERS[recipe.optimizer](recipe.weight_decay))


def apply_gradient(
  recipe: Recipe, params: Any, opt_state: Any, gradient: Any, rate: jax.Array
) -> tuple[Any, Any]:
  """Makes one step of a recipe's optimizer.

  Args:
    recipe: The recipe.
    params: The parameters.
    opt_state: State of the optimizer.
    gradient: The gradient at the parameters.
    rate: float32 [], the learning rate.
  """
  update, opt_state = make_optimizer(recipe).update(
    gradient, opt_state, params, learning_rate=rate
  )
  return optax.apply_updates(params, update), opt_state


def _adamw(weight_decay: float) -> optax.GradientTransformationExtraArgs:
  # As float32, because the results in docs/ were computed with 1 - b1 rounded
  # in this way.
  b1, b2, eps = np.float32(0.9), np.float32(0.999), np.float32(1e-8)
  return optax.chain(
    optax.scale_by_adam(b1, b2, eps),
    optax.add_decayed_weights(weight_decay, mask=_are_kernels),
    _scale_by_given_rate(),
  )


def _lars(weight_decay: float) -> optax.GradientTransformationExtraArgs:
  # The stages of `optax.lars` with its defaults, but a rate that is passed in.
  return optax.chain(
    optax.add_decayed_weights(weight_decay, mask=_are_kernels),
    optax.masked(
      optax.scale_by_trust_ratio(trust_coefficient=1e-3), _are_kernels
    ),
    _scale_by_given_rate(),
    optax.trace(decay=0.9),
  )


OPTIMIZERS: dict[
  str, Callable[[float], optax.GradientTransformationExtraArgs]
] = {
  # At a weight decay of 0 this is Adam.
  "adamw": _adamw,
  "lars": _lars,
}


def _are_kernels(params: Any) -> Any:
  """Marks kernels, as opposed to biases and gains of normalization layers."""
  return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _scale_by_given_rate() -> optax.GradientTransformationExtraArgs:
  """Scales updates by minus the rate that `update` is called with."""

  def update(updates, state, params=None, **extra):
    del params
    rate = extra["learning_rate"]
    return jax.tree.map(lambda leaf: -rate * leaf, updates), state

  return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def _with_float_counts(
  optimizer: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
  """Counts steps in float32.

  Optimizers of optax raise a float to the power of their int32 count, which
  strict type promotion refuses. Float32 counts exactly up to 2^24, where the
  bias corrections have long become 1.
  """

  def init(params):
    def as_float(leaf):
      is_count = jnp.issubdtype(leaf.dtype, jnp.integer)
      return leaf.astype(jnp.float32) if is_count else leaf

    return jax.tree.map(as_float, optimizer.init(params))

  return optax.GradientTransformationExtraArgs(init, optimizer.update)
