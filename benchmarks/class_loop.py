"""DECERN's scoring as its authors compute it: a loop over classes, in PyTorch.

It follows the order of operations of the official code: float32, batches of
128, the gradient by backward, fused features in full width, one pass through
the head per class. It is the baseline of `scoring.py`.
"""

import numpy as np
from sklearn.cluster import KMeans
import torch  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # pyright: ignore[reportMissingImports]

BATCH_SIZE = 128
EPSILON = 1e-10


def saliency_mask(features, probs, kernel, bias):
  """Returns the mask [batch, dim], 1.0 at salient coordinates."""
  leaf = features.detach().clone().requires_grad_()
  loss = F.cross_entropy(F.linear(leaf, kernel, bias), probs.argmax(dim=1))
  (gradient,) = torch.autograd.grad(loss, leaf)
  gradient = gradient - gradient.amin(dim=1, keepdim=True)
  gradient = F.normalize(gradient, dim=1)[:, None]
  pooled = F.adaptive_avg_pool1d(gradient, 100)
  top = pooled.topk(10, dim=2).indices
  bins = torch.zeros_like(pooled).scatter(2, top, 1.0)
  return F.interpolate(bins, features.shape[1])[:, 0]


def class_scores(probs, whole, part, fused, distance, fraction):
  """Returns one class's scores [batch]."""
  log = torch.log(fused + EPSILON)
  confusion = torch.sum(-fused * log, dim=1) ** (1 - distance)

  def term(mixture):
    return torch.sum(-mixture * log, dim=1) ** distance + confusion

  own = (1 - fraction[:, 0]) * term(probs) + fraction[:, 0] * term(whole)
  return own + term(part)


def discrepancy_confusion(features, probs, anchors, anchor_probs, kernel, bias):
  """Scores a pool.

  Args:
    features: [pool, dim].
    probs: [pool, classes].
    anchors: [classes, dim].
    anchor_probs: [classes, classes].
    kernel: [classes, dim], as torch.nn.Linear has it.
    bias: [classes].

  Returns:
    The scores [pool].
  """
  scores = torch.zeros(len(features), len(anchors))
  for start in range(0, len(features), BATCH_SIZE):
    batch = slice(start, start + BATCH_SIZE)
    x, p = features[batch], probs[batch]
    ratio = p.clamp(1 / 64, 63 / 64)
    cosine = F.cosine_similarity(x[:, None], anchors[None], dim=2)
    distance = 1 - (1 + cosine) / 2
    mask = saliency_mask(x, p, kernel, bias)
    fraction = mask.mean(dim=1, keepdim=True)
    unchanged = (1 - mask) * x
    with torch.no_grad():
      for i in range(len(anchors)):
        lam = ratio[:, i, None]
        moved = (mask * x) * (1 - lam) + (mask * anchors[i]) * lam
        logits = F.linear(unchanged + moved, kernel, bias)
        scores[batch, i] = class_scores(
          p,
          (1 - lam) * p + lam * anchor_probs[i],
          (1 - fraction * lam) * p + fraction * lam * anchor_probs[i],
          F.softmax(logits, dim=1),
          distance[:, i],
          fraction,
        )
  return scores.mean(dim=1)


def select(features, scores, anchors, *, budget, gamma=0.8, seed=0):
  """Selects by filter, scikit-learn's KMeans and the calibrated pick.

  Returns:
    Positions of the picks.
  """
  scores = scores.numpy()
  deviation = scores - scores.mean()
  skewness = np.mean(deviation**3) / np.mean(deviation**2) ** 1.5
  threshold = scores.mean() + 0.5 * scores.std() * skewness
  candidates = np.flatnonzero(scores > threshold)
  if len(candidates) <= budget:
    return np.argsort(-scores)[:budget]
  x = F.normalize(features[candidates], dim=1)
  clusters = KMeans(budget, random_state=seed)
  clusters.fit(x.numpy(), sample_weight=scores[candidates])
  centers = F.normalize(torch.tensor(clusters.cluster_centers_), dim=1)
  far = 1 - (x @ F.normalize(anchors, dim=1).T).amax(dim=1)
  picks = []
  for center, cluster in zip(centers, range(budget), strict=True):
    members = torch.tensor(np.flatnonzero(clusters.labels_ == cluster))
    if len(members):
      near = _scale(1 - x[members] @ center)
      cost = gamma * near - (1 - gamma) * _scale(far[members])
      picks.append(candidates[members[cost.argmin()]])
  return np.array(picks)


def _scale(values):
  low, high = values.min(), values.max()
  return (values - low) / (high - low + EPSILON)
