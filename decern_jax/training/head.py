"""Training of the linear head on frozen features, all epochs in one call."""

from collections.abc import Callable
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
import numpy as np
import optax

from decern_jax.ops import keys
from decern_jax.ops.head import LinearHead, logits
from decern_jax.training.recipe import (
  Recipe,
  apply_gradient,
  learning_rates,
  make_optimizer,
)


def init_head(key: Key[Array, ""], *, dim: int, num_classes: int) -> LinearHead:
  """Returns a fresh head: uniform in ±1/sqrt(dim), like PyTorch's Linear."""
  bound = 1.0 / math.sqrt(dim)
  kernel_key, bias_key = jax.random.split(key)

  def draw(key, shape):
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

  return LinearHead(
    draw(kernel_key, (dim, num_classes)), draw(bias_key, (num_classes,))
  )


def example_losses(
  outputs: Float[Array, "rows classes"], labels: Int[Array, "rows ..."]
) -> Float[Array, " rows"]:
  """Returns the loss of each example.

  Args:
    outputs: The logits.
    labels: The class of each example: the loss is the cross-entropy. Or 0 or 1
      for every label, [rows, classes]: the mean binary cross-entropy.
  """
  if labels.ndim == 1:
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels)
  binary = optax.sigmoid_binary_cross_entropy(
    outputs, labels.astype(outputs.dtype)
  )
  return jnp.mean(binary, axis=1)


def cross_entropy(
  head: LinearHead,
  features: Float[Array, "rows dim"],
  labels: Int[Array, "rows ..."],
  counted: Bool[Array, " rows"],
) -> Float[Array, ""]:
  """Returns the mean of `example_losses` over the rows that count."""
  losses = example_losses(logits(head, features), labels)
  total = jnp.sum(jnp.where(counted, losses, 0.0))
  return total / jnp.maximum(jnp.sum(counted), 1).astype(total.dtype)


def _head_loss(head, features, labels, counted):
  loss = cross_entropy(head, features, labels, counted)
  return loss, loss


@functools.partial(jax.jit, static_argnames="recipe")
def fit_head(
  key: Key[Array, ""],
  head: LinearHead,
  features: Float[Array, "rows dim"],
  labels: Int[Array, "rows ..."],
  num_rows: Int[Array, ""],
  *,
  recipe: Recipe,
) -> tuple[LinearHead, Float[Array, " epochs"]]:
  """Trains a head on the first rows of an array, as `fit_params` does.

  Args:
    key: Random key of the orders.
    head: The head to start from.
    features: Features; the labeled ones come first.
    labels: Class of each row, or 0 or 1 for every label. Rows past `num_rows`
      may have any label.
    num_rows: Number of rows that count, in [1, rows].
    recipe: How to train.

  Returns:
    The trained head, and the mean loss of each epoch.
  """
  return fit_params(
    key,
    head,
    features,
    labels,
    num_rows,
    compute_loss=_head_loss,
    recipe=recipe,
  )


def start_head(seed: int, *, dim: int, num_classes: int) -> LinearHead:
  """Returns the head that every round of a run starts from."""
  key = keys.seed_key(seed, "params")
  return init_head(key, dim=dim, num_classes=num_classes)


def train_head(
  features: Float[np.ndarray, "rows dim"],
  labels: Int[np.ndarray, "rows ..."],
  num_rows: int,
  *,
  seed: int,
  round_num: int,
  num_classes: int,
  recipe: Recipe,
) -> tuple[LinearHead, Float[np.ndarray, " epochs"]]:
  """Trains the head of a round, from the same start in every round.

  Args:
    features: As in `fit_head`.
    labels: As in `fit_head`.
    num_rows: As in `fit_head`.
    seed: Seed of the run.
    round_num: The round.
    num_classes: Number of classes.
    recipe: How to train.

  Returns:
    The head, and the mean loss of each epoch.
  """
  head, losses = fit_head(
    keys.round_key(seed, "order", round_num),
    start_head(seed, dim=features.shape[1], num_classes=num_classes),
    features,
    labels,
    jnp.asarray(num_rows),
    recipe=recipe,
  )
  return head, np.asarray(losses)


def fit_params(
  key: Key[Array, ""],
  params: Any,
  features: Float[Array, "rows dim"],
  labels: Int[Array, "rows ..."],
  num_rows: Int[Array, ""],
  *,
  compute_loss: Callable[..., tuple[jax.Array, jax.Array]],
  recipe: Recipe,
) -> tuple[Any, Float[Array, " epochs"]]:
  """Trains parameters on the first rows of an array; call it inside `jax.jit`.

  All rounds of a run pass arrays of the same length, so that it compiles this
  once. Each pass visits the rows that count in a new random order. Its last,
  incomplete batch is dropped, unless it is the only one.

  Args:
    key: Random key of the orders.
    params: The parameters to start from.
    features: Features; the labeled ones come first.
    labels: As in `fit_head`.
    num_rows: Number of rows that count, in [1, rows].
    compute_loss: Maps parameters, features and labels of a batch, and a mask of
      the rows that count, which come first, to the loss to minimize and the
      loss to report.
    recipe: How to train.

  Returns:
    The trained parameters, and the mean reported loss of each epoch.
  """
  size = min(recipe.batch_size, len(features))
  per_pass = jnp.maximum(num_rows // size, 1)
  per_epoch = per_pass
  if recipe.steps_per_epoch is not None:
    per_epoch = jnp.asarray(recipe.steps_per_epoch)
  rows = jnp.arange(len(features))

  def draw_order(number):
    chance = jax.random.uniform(jax.random.fold_in(key, number), rows.shape)
    return jnp.argsort(jnp.where(rows < num_rows, chance, jnp.inf))

  def run_epoch(carry, epoch):
    index, rate = epoch

    def run_batch(batch, state):
      params, opt_state, order, total = state
      number, place = jnp.divmod(index * per_epoch + batch, per_pass)
      order = jax.lax.cond(place == 0, draw_order, lambda number: order, number)
      begin = place * size
      where = jax.lax.dynamic_slice_in_dim(order, begin, size)
      counted = begin + jnp.arange(size) < num_rows
      # Rows past `num_rows` may hold anything. A NaN times a weight of zero
      # would still be a NaN in the gradient.
      inputs = jnp.where(counted[:, None], features[where], 0.0)
      (_, loss), gradient = jax.value_and_grad(compute_loss, has_aux=True)(
        params, inputs, labels[where], counted
      )
      params, opt_state = apply_gradient(
        recipe, params, opt_state, gradient, rate
      )
      return params, opt_state, order, total + loss

    params, opt_state, order = carry
    params, opt_state, order, total = jax.lax.fori_loop(
      0, per_epoch, run_batch, (params, opt_state, order, 0.0)
    )
    losses = total / per_epoch.astype(jnp.float32)
    return (params, opt_state, order), losses

  indices = jnp.arange(recipe.num_epochs)
  start = params, make_optimizer(recipe).init(params), rows
  (params, *_), losses = jax.lax.scan(
    run_epoch, start, (indices, learning_rates(recipe, indices))
  )
  return params, losses
