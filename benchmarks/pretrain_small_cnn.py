"""Pre-trains the small CNN of the quickstart on rendered classes it never sees.

  python -m benchmarks.pretrain_small_cnn [--output=FILE]

Draws butterflies of the kinds that the quickstart leaves out, learns to name
their parts from each picture once, folds the normalisation away, and writes the
weights in float16 where the package ships them. Then trains linear heads on the
frozen features of the quickstart's own classes, as a run of it would.
"""

import argparse
from collections.abc import Iterator
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs import common
from decern_jax import training
from decern_jax.data import rendered
from decern_jax.data.dataset import Split
from decern_jax.data.pipeline import image_batches
from decern_jax.data.rendering.butterfly import PARTS
from decern_jax.models import pretrained, small_cnn
from decern_jax.ops.head import LinearHead, logits

OUTPUT = (
  pathlib.Path(small_cnn.__file__).parent / "weights" / "small_cnn.safetensors"
)
SEED = 0
# Few on purpose: with 300, one label per class of the quickstart gives 98 %,
# and nothing would be left to learn.
IMAGES_PER_CLASS = 60
BATCH_SIZE = 64
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-4
NUM_WORKERS = 2
LABELS_PER_CLASS = (1, 3, 6, 12, None)
REPEATS = 3

_ENDS = np.cumsum([len(values) for values in PARTS.values()])
_MODEL = small_cnn.SmallCNN(use_batch_norm=True)


def main() -> None:
  """Trains, writes the weights and probes them."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
  options = parser.parse_args()
  pretraining = rendered.load_pretraining(
    train_per_class=IMAGES_PER_CLASS, seed=SEED
  )
  variables, head = train(pretraining.train)
  variables = jax.tree.map(
    lambda array: np.asarray(array, np.float16),
    small_cnn.fold_batch_norm(variables),
  )
  options.output.parent.mkdir(exist_ok=True)
  pretrained.save_safetensors(options.output, variables)
  print(f"{options.output}: {options.output.stat().st_size:,} bytes")

  variables = jax.tree.map(lambda array: array.astype(np.float32), variables)
  report_parts(variables, head, pretraining.test)
  report_probes(variables)


def part_codes() -> np.ndarray:
  """Position of each part's value, int [pre-training classes, parts]."""
  names = list(PARTS.values())
  return np.array(
    [
      [names[i].index(part) for i, part in enumerate(kind)]
      for kind in rendered.pretraining_classes()
    ]
  )


def split_parts(scores: jax.Array) -> list[jax.Array]:
  """Scores of the values of each part."""
  return jnp.split(scores, _ENDS[:-1], axis=-1)


def batches(split: Split) -> Iterator[np.ndarray]:
  """The images of a part, uint8 [batch, height, width, 3]."""
  return image_batches(
    split,
    lambda image: image,
    batch_size=BATCH_SIZE,
    num_workers=NUM_WORKERS,
  )


def normalise(images: np.ndarray | jax.Array) -> jax.Array:
  """Maps 0..255 to [-1, 1], as the table of models does."""
  return images.astype(jnp.float32) / 127.5 - 1.0


def part_loss(params, batch_stats, images, codes):
  """Sum of the parts' cross-entropies, and the new batch statistics."""
  backbone, head = params
  features, updates = _MODEL.apply(
    {"params": backbone, "batch_stats": batch_stats},
    normalise(images),
    mutable=["batch_stats"],
  )
  losses = [
    optax.softmax_cross_entropy_with_integer_labels(scores, code).mean()
    for scores, code in zip(
      split_parts(logits(head, features)), codes.T, strict=True
    )
  ]
  return sum(losses), updates["batch_stats"]


def train(split: Split) -> tuple[dict, LinearHead]:
  """Trains on each image once; returns the variables and the parts' head."""
  num_steps = len(split.ids) // BATCH_SIZE
  schedule = optax.warmup_cosine_decay_schedule(
    0.0, LEARNING_RATE, num_steps // 20, num_steps
  )
  optimizer = optax.adamw(schedule, weight_decay=WEIGHT_DECAY)
  key, head_key = jax.random.split(jax.random.key(SEED))
  variables = _MODEL.init(key, normalise(split.read(0)[None]))
  head = training.init_head(
    head_key, dim=small_cnn.FEATURE_DIM, num_classes=_ENDS[-1]
  )
  params, batch_stats = (variables["params"], head), variables["batch_stats"]
  opt_state = optimizer.init(params)

  @jax.jit
  def step(params, batch_stats, opt_state, images, codes):
    (loss, batch_stats), gradient = jax.value_and_grad(part_loss, has_aux=True)(
      params, batch_stats, images, codes
    )
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), batch_stats, opt_state, loss

  codes, start = part_codes()[split.labels], time.perf_counter()
  for i, images in zip(range(num_steps), batches(split), strict=False):
    rows = slice(i * BATCH_SIZE, (i + 1) * BATCH_SIZE)
    params, batch_stats, opt_state, loss = step(
      params, batch_stats, opt_state, images, codes[rows]
    )
    if (i + 1) % 50 == 0:
      seconds = time.perf_counter() - start
      print(f"step {i + 1}/{num_steps}: loss {loss:.3f}, {seconds:.0f} s")
  backbone, head = params
  return {"params": backbone, "batch_stats": batch_stats}, head


def embed(variables: dict, split: Split) -> np.ndarray:
  """Features of a part, float32 [examples, dim]."""
  apply = jax.jit(lambda images: _EMBEDDER.apply(variables, normalise(images)))
  return np.concatenate([apply(images) for images in batches(split)])


_EMBEDDER = small_cnn.SmallCNN()


def report_parts(variables: dict, head: LinearHead, split: Split) -> None:
  """Prints how often the parts of held-out images are named right."""
  scores = split_parts(logits(head, embed(variables, split)))
  named = np.stack([part.argmax(axis=-1) for part in scores], axis=1)
  right = named == part_codes()[split.labels]
  for part, accuracy in zip(PARTS, right.mean(axis=0), strict=True):
    print(f"held-out images, pre-training classes, {part}: {accuracy:.1%}")
  print(f"all parts: {right.all(axis=1).mean():.1%}")


def report_probes(variables: dict) -> None:
  """Prints the accuracy of linear heads on the quickstart's classes."""
  dataset = rendered.load_rendered()
  start = time.perf_counter()
  train = embed(variables, dataset.train)
  test = embed(variables, dataset.test)
  rate = (len(train) + len(test)) / (time.perf_counter() - start)
  print(f"drawn and embedded: {rate:.0f} images per second")
  for count in LABELS_PER_CLASS:
    accuracies = [
      probe(train, dataset.train.labels, test, dataset.test.labels, count, seed)
      for seed in range(REPEATS)
    ]
    print(
      f"linear head, {count or 'all'} labels per class: "
      f"{np.mean(accuracies):.1%} (deviation {np.std(accuracies):.1%})"
    )


def probe(train, train_labels, test, test_labels, count, seed) -> float:
  """Accuracy of a head trained on `count` random examples of each class."""
  rng = np.random.default_rng(seed)
  order = rng.permutation(len(train))
  rank = np.empty(len(train), int)
  for label in range(train_labels.max() + 1):
    rows = order[train_labels[order] == label]
    rank[rows] = np.arange(len(rows))
  order = np.argsort(rank, kind="stable")
  num_rows = len(train) if count is None else int((rank < count).sum())
  recipe = training.Recipe(**common.get_config().train.to_dict())
  key = jax.random.key(seed)
  head = training.init_head(
    key, dim=train.shape[1], num_classes=train_labels.max() + 1
  )
  head, _ = training.fit_head(
    key,
    head,
    train[order],
    train_labels[order],
    jnp.int32(num_rows),
    recipe=recipe,
  )
  return (logits(head, test).argmax(axis=-1) == test_labels).mean()


if __name__ == "__main__":
  main()
