"""Regularised logistic regression, solved to its optimum."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from decern_jax.ops.head import LinearHead

# Pairs of steps and gradient changes that L-BFGS remembers.
MEMORY = 10

MAX_STEPS = 300

# The search along a direction ends when the slope is this share of the first.
SLOPE_SHARE = 0.1
MAX_SEARCH_STEPS = 20

# Relative decrease of the objective below which float32 only adds rounding.
ROUNDING = 1e-7

# Largest entry of the gradient at the optimum, over the sum of the weights.
TOLERANCE = 1e-5


class Solution(NamedTuple):
  """A fitted classifier.

  Attributes:
    head: The classifier.
    loss: Weighted mean of the losses, without the penalty.
    gradient: Largest entry of the gradient, over the sum of the weights.
    num_steps: Steps that were taken.
  """

  head: LinearHead
  loss: Float[Array, ""]
  gradient: Float[Array, ""]
  num_steps: Int[Array, ""]


class _State(NamedTuple):
  """A step of L-BFGS.

  Attributes:
    params: [dim + 1, classes], kernel and bias.
    outputs: [rows, classes], the logits.
    gradient: [dim + 1, classes].
    steps: [MEMORY, dim + 1, classes], the last changes of `params`.
    changes: [MEMORY, dim + 1, classes], those of `gradient`.
    curvatures: [MEMORY], their inner products; 0 where there is none.
    count: Steps so far.
    is_done: Whether no step can improve the objective.
  """

  params: jax.Array
  outputs: jax.Array
  gradient: jax.Array
  steps: jax.Array
  changes: jax.Array
  curvatures: jax.Array
  count: jax.Array
  is_done: jax.Array


@functools.partial(jax.jit, static_argnames="is_multi_label")
def fit_logistic(
  features: Float[Array, "rows dim"],
  targets: Float[Array, "rows classes"],
  weights: Float[Array, " rows"],
  *,
  inverse_penalty: float | Float[Array, ""],
  is_multi_label: bool = False,
) -> Solution:
  """Fits a linear classifier by L-BFGS.

  Minimizes

    sum_i w_i l(t_i, x_i W + c) + (|W|² + |c|²) / (2 C),

  where l is the cross-entropy, or the sum of the binary cross-entropies of all
  labels. The objective is strictly convex: the optimum is unique, and needs no
  random start and no schedule. The penalty of c keeps the probability of a
  class without examples above 0.

  Each step minimizes along its direction by a safeguarded Newton method. That
  takes no product with the features, as the logits are linear in the step.

  Args:
    features: Features x. Rows of weight 0 may hold anything.
    targets: Probability of each class, with the sum 1; or of each label.
    weights: Weights w, at least 0.
    inverse_penalty: C, positive.
    is_multi_label: Whether an example may have several labels.

  Returns:
    The solution. Its largest entry of the gradient is at most `TOLERANCE`,
    unless float32 allows no further step, or after `MAX_STEPS`.

  References:
    Liu and Nocedal, "On the limited memory BFGS method for large scale
    optimization", Mathematical Programming 1989.
  """
  counts = (weights > 0.0)[:, None]
  ones = jnp.ones((len(features), 1), features.dtype)
  inputs = jnp.concatenate([jnp.where(counts, features, 0.0), ones], axis=1)
  targets = jnp.where(counts, targets, 0.0)
  penalty = 1.0 / jnp.asarray(inverse_penalty, features.dtype)
  total = jnp.maximum(jnp.sum(weights), jnp.finfo(features.dtype).tiny)
  predict = jax.nn.sigmoid if is_multi_label else jax.nn.softmax

  def gradient_at(params, outputs):
    errors = weights[:, None] * (predict(outputs) - targets)
    return _matmul(inputs.T, errors) + penalty * params

  def losses_at(outputs):
    if is_multi_label:
      bits = jax.nn.softplus(outputs) - targets * outputs
      return jnp.sum(bits, axis=1)
    return -jnp.sum(targets * jax.nn.log_softmax(outputs), axis=1)

  def slopes(params, outputs, direction, change, length):
    """First and second derivative of the objective along a direction."""
    probs = predict(outputs + length * change)
    first = jnp.sum((probs - targets) * change, axis=1)
    second = probs * change**2
    if is_multi_label:
      second = jnp.sum(second * (1.0 - probs), axis=1)
    else:
      means = jnp.sum(probs * change, axis=1)
      second = jnp.sum(second, axis=1) - means**2
    inner = jnp.sum((params + length * direction) * direction)
    return (
      jnp.sum(weights * first) + penalty * inner,
      jnp.sum(weights * jnp.maximum(second, 0.0))
      + penalty * jnp.sum(direction**2),
    )

  def step(state):
    direction = -_times_inverse_hessian(state)
    change = _matmul(inputs, direction)
    length, slope = _search(
      functools.partial(slopes, state.params, state.outputs, direction, change)
    )
    params = state.params + length * direction
    outputs = state.outputs + length * change
    gradient = gradient_at(params, outputs)
    moved, changed = length * direction, gradient - state.gradient
    curvature = jnp.maximum(jnp.sum(moved * changed), 0.0)
    at = state.count % MEMORY
    objective = jnp.sum(weights * losses_at(outputs))
    objective += 0.5 * penalty * jnp.sum(params**2)
    return _State(
      params,
      outputs,
      gradient,
      state.steps.at[at].set(moved),
      state.changes.at[at].set(changed),
      state.curvatures.at[at].set(curvature),
      state.count + 1,
      (-slope * length <= ROUNDING * objective) | (curvature == 0.0),
    )

  def goes_on(state):
    is_far = jnp.max(jnp.abs(state.gradient)) > TOLERANCE * total
    return is_far & ~state.is_done & (state.count < MAX_STEPS)

  params = jnp.zeros((inputs.shape[1], targets.shape[1]), features.dtype)
  outputs = jnp.zeros_like(targets)
  memory = jnp.zeros((MEMORY, *params.shape), params.dtype)
  state = jax.lax.while_loop(
    goes_on,
    step,
    _State(
      params,
      outputs,
      gradient_at(params, outputs),
      memory,
      memory,
      jnp.zeros(MEMORY, params.dtype),
      jnp.zeros((), jnp.int32),
      jnp.zeros((), bool),
    ),
  )
  return Solution(
    LinearHead(state.params[:-1], state.params[-1]),
    jnp.sum(weights * losses_at(state.outputs)) / total,
    jnp.max(jnp.abs(state.gradient)) / total,
    state.count,
  )


def _matmul(left: jax.Array, right: jax.Array) -> jax.Array:
  return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)


def _times_inverse_hessian(state: _State) -> jax.Array:
  """Returns the gradient times the estimate of the inverse Hessian.

  That is the recursion of two loops, from the latest pair to the oldest one and
  back. A pair without curvature changes nothing.
  """
  has_pair = state.curvatures > 0.0
  inverse = jnp.where(has_pair, 1.0, 0.0) / jnp.where(
    has_pair, state.curvatures, 1.0
  )

  def backward(age, carry):
    product, shares = carry
    at = (state.count - 1 - age) % MEMORY
    share = inverse[at] * jnp.sum(state.steps[at] * product)
    return product - share * state.changes[at], shares.at[at].set(share)

  def forward(age, product):
    at = (state.count + age) % MEMORY
    share = inverse[at] * jnp.sum(state.changes[at] * product)
    return product + (shares[at] - share) * state.steps[at]

  product, shares = jax.lax.fori_loop(
    0, MEMORY, backward, (state.gradient, jnp.zeros_like(inverse))
  )
  last = (state.count - 1) % MEMORY
  square = jnp.sum(state.changes[last] ** 2)
  scale = jnp.where(
    has_pair[last],
    state.curvatures[last] / jnp.where(square > 0.0, square, 1.0),
    1.0,
  )
  return jax.lax.fori_loop(0, MEMORY, forward, scale * product)


def _search(slopes) -> tuple[jax.Array, jax.Array]:
  """Minimizes a convex function of a positive number.

  Args:
    slopes: Maps a number to the first and second derivative there.

  Returns:
    A number near the minimum, and the first derivative at 0.
  """
  start, curvature = slopes(0.0)

  def refine(carry):
    length, low, high, _, count = carry
    slope, curvature = slopes(length)
    low, high = (
      jnp.where(slope <= 0.0, length, low),
      jnp.where(slope <= 0.0, high, length),
    )
    newton = length - slope / curvature
    middle = jnp.where(high < jnp.inf, 0.5 * (low + high), 2.0 * length)
    is_inside = (newton > low) & (newton < high)
    is_near = jnp.abs(slope) <= SLOPE_SHARE * jnp.abs(start)
    following = jnp.where(is_inside, newton, middle)
    following = jnp.where(is_near, length, following)
    return following, low, high, is_near, count + 1

  def goes_on(carry):
    return ~carry[3] & (carry[4] < MAX_SEARCH_STEPS)

  first = (
    jnp.maximum(-start, 0.0) / curvature,
    jnp.zeros_like(start),
    jnp.full_like(start, jnp.inf),
    jnp.zeros((), bool),
    jnp.zeros((), jnp.int32),
  )
  return jax.lax.while_loop(goes_on, refine, first)[0], start
