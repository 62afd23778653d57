"""What the tests compare with: DECERN by the letter, in NumPy float64.

Written from the method's description, as the official code does it: a loop over
the classes, and over every coordinate of the fused features.
"""

from typing import Any, NamedTuple

import jax
from jax.sharding import PartitionSpec
import numpy as np

from decern_jax import Anchors, LinearHead
from decern_jax.distributed import sharding

EPSILON = 1e-10


def float32(values: Any) -> Any:
  """Returns values as a new array, of any type to pyright."""
  return np.array(values, np.float32)


def float64(values: Any) -> Any:
  return np.array(values, np.float64)


class Problem(NamedTuple):
  """A pool, what is labeled, and the head that predicts both."""

  features: np.ndarray
  probs: np.ndarray
  labeled_features: np.ndarray
  labeled_probs: np.ndarray
  labels: np.ndarray
  kernel: Any
  bias: Any

  @property
  def head(self) -> LinearHead:
    return LinearHead(self.kernel, self.bias)

  @property
  def anchors(self) -> Anchors:
    found = class_anchors(
      self.labeled_features,
      self.labeled_probs,
      self.labels,
      num_classes=len(self.bias),
    )
    return Anchors(*map(float32, found))

  @property
  def pool(self) -> tuple:
    """The arguments that the scoring functions begin with."""
    return self.features, self.probs, self.anchors, self.head


def softmax(logits: np.ndarray) -> np.ndarray:
  exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return exponentials / exponentials.sum(axis=-1, keepdims=True)


def predict(features, kernel, bias) -> np.ndarray:
  return softmax(float64(features) @ float64(kernel) + bias)


def make_problem(
  seed: int = 0,
  *,
  pool: int = 40,
  dim: int = 37,
  classes: int = 5,
  labeled: int = 12,
  sharpness: float = 2.0,
  kernel: Any = None,
) -> Problem:
  """Draws a problem; `sharpness` is the standard deviation of its logits."""
  rng = np.random.default_rng(seed)
  features = rng.normal(size=(pool + labeled, dim)).astype(np.float32)
  features += rng.normal(size=dim).astype(np.float32)
  if kernel is None:
    kernel = rng.normal(size=(dim, classes)) * sharpness / np.sqrt(dim)
  kernel = kernel.astype(np.float32)
  bias = rng.normal(size=classes).astype(np.float32)
  # The last class has no label unless it is the only other one.
  labels = np.arange(labeled) % max(2, classes - 1)
  probs = predict(features, kernel, bias).astype(np.float32)
  return Problem(
    features=features[:pool],
    probs=probs[:pool],
    labeled_features=features[pool:],
    labeled_probs=probs[pool:],
    labels=labels.astype(np.int32),
    kernel=kernel,
    bias=bias,
  )


def class_anchors(features, probs, labels, *, num_classes):
  def mean_by_class(rows):
    rows = float64(rows)
    means = [rows[labels == c] for c in range(num_classes)]
    return np.stack([m.mean(0) if len(m) else rows.mean(0) for m in means])

  return mean_by_class(features), mean_by_class(probs)


def gradients(features, probs, kernel, bias) -> np.ndarray:
  """Gradients of cross-entropy(head(x), argmax p) by x."""
  prediction = predict(features, kernel, bias)
  rows, target = np.arange(len(probs)), probs.argmax(axis=1)
  residual = prediction.copy()
  residual[rows, target] = 0.0
  # softmax - 1, without the cancellation.
  residual[rows, target] = -residual.sum(axis=1)
  return residual @ float64(kernel).T


def salient_coordinates(gradients, *, num_bins=100, num_top_bins=10):
  """Shift, normalise, pool, take the top bins, up-sample: the official way."""
  num_rows, dim = gradients.shape
  shifted = gradients - gradients.min(axis=1, keepdims=True)
  length = np.linalg.norm(shifted, axis=1, keepdims=True)
  shifted = shifted / np.maximum(length, 1e-12)
  mask = np.zeros((num_rows, dim), bool)
  for row in range(num_rows):
    pooled = [
      shifted[row, k * dim // num_bins : -(-(k + 1) * dim // num_bins)].mean()
      for k in range(num_bins)
    ]
    top = np.argsort(-np.array(pooled), kind="stable")[:num_top_bins]
    for j in range(dim):
      bin_ = float32(j) * (float32(num_bins) / float32(dim))
      mask[row, j] = int(np.floor(bin_)) in top
  return mask


def saliency_mask(problem: Problem, **bins) -> np.ndarray:
  return salient_coordinates(
    gradients(problem.features, problem.probs, problem.kernel, problem.bias),
    **bins,
  )


def log_probs(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns P and log(P + epsilon), the largest entry's by log1p."""
  probs = softmax(logits)
  logs = np.log(probs + EPSILON)
  rows, top = np.arange(len(probs)), logits.argmax(axis=1)
  others = probs.copy()
  others[rows, top] = 0.0
  logs[rows, top] = np.log1p(EPSILON - others.sum(axis=1))
  return probs, logs


def discrepancy_confusion(problem: Problem, **bins) -> np.ndarray:
  x, p = float64(problem.features), float64(problem.probs)
  anchor_features, anchor_probs = (float64(a) for a in problem.anchors)
  mask = saliency_mask(problem, **bins)
  rho = mask.mean(axis=1)
  scores = []
  for a, q, p_i in zip(anchor_features, anchor_probs, p.T, strict=True):
    lam = np.clip(p_i, 1 / 64, 63 / 64)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(a)
    cosine = x @ a / np.where(lengths > 0.0, lengths, 1.0)
    d = (1.0 - np.clip(cosine, -1.0, 1.0)) / 2.0
    fused = x + mask * lam[:, None] * (a - x)
    fused_probs, logs = log_probs(fused @ problem.kernel + problem.bias)

    def cross_entropy(u, logs=logs):
      return np.maximum(-(u * logs).sum(axis=1), 0.0)

    def mixture(weight, q=q):
      return (1.0 - weight)[:, None] * p + weight[:, None] * q

    confusion = cross_entropy(fused_probs) ** (1.0 - d)
    scores.append(
      (1.0 - rho) * (cross_entropy(p) ** d + confusion)
      + rho * (cross_entropy(mixture(lam)) ** d + confusion)
      + (cross_entropy(mixture(rho * lam)) ** d + confusion)
    )
  return np.mean(scores, axis=0)


def uncertainty_threshold(scores, *, gamma=0.5) -> float:
  deviation = float64(scores) - np.mean(scores, dtype=np.float64)
  std = np.sqrt(np.mean(deviation**2))
  skewness = np.mean((deviation / std) ** 3) if std > 0.0 else 0.0
  return np.mean(scores, dtype=np.float64) + gamma * std * skewness


def candidates(scores, *, budget, gamma=0.5) -> np.ndarray:
  above = np.flatnonzero(scores > uncertainty_threshold(scores, gamma=gamma))
  return above if len(above) >= budget else np.argsort(-scores)[:budget]


def normalize(rows) -> np.ndarray:
  rows = float64(rows)
  length = np.linalg.norm(rows, axis=1, keepdims=True)
  return rows / np.maximum(length, 1e-12)


def calibrated_pick(
  features, centers, assignments, anchor_features, *, weights=None, gamma=0.8
) -> list[int | None]:
  """Returns the pick of each cluster, None where it has none."""
  features, centers = normalize(features), normalize(centers)
  far = 1.0 - (features @ normalize(anchor_features).T).max(axis=1)

  def scale(values):
    return (values - values.min()) / (np.ptp(values) + EPSILON)

  picks = []
  for k, center in enumerate(centers):
    is_member = assignments == k
    if weights is not None:
      is_member &= weights > 0
    members = np.flatnonzero(is_member)
    if not len(members):
      picks.append(None)
      continue
    near = 1.0 - features[members] @ center
    cost = gamma * scale(near) - (1.0 - gamma) * scale(far[members])
    picks.append(int(members[cost.argmin()]))
  return picks


def on_shards(function, num_devices, *arrays, out=None):
  """Calls `function` inside `shard_map`, the arrays' rows split evenly.

  `out` is the partition of the results; None: equal on every shard.
  """
  rows = PartitionSpec(sharding.POOL_AXIS)
  mapped = jax.shard_map(
    function,
    mesh=sharding.make_mesh(num_devices),
    in_specs=rows,
    out_specs=PartitionSpec() if out is None else out,
  )
  return jax.jit(mapped)(*arrays)


def predicted_losses(module, stages) -> np.ndarray:
  """Predicts losses by a module from the outputs of stages [rows, dim]."""
  module = jax.tree.map(np.float64, module)
  hidden = [
    np.maximum(np.asarray(stage, np.float64) @ layer.kernel + layer.bias, 0.0)
    for layer, stage in zip(module.hidden, stages, strict=True)
  ]
  output = module.output
  return (np.concatenate(hidden, axis=1) @ output.kernel + output.bias)[:, 0]
