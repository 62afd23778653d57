"""Pre-trains the small CNN of the quickstart on rendered classes it never sees.

  python -m benchmarks.pretrain_small_cnn [--output=FILE]

Trains a classifier of butterflies that the quickstart leaves out, on pictures
that are each seen once. Folds the normalisation into the convolutions, whitens
the features, and writes the weights in float16 where the package ships them.
Then trains linear heads on the frozen features of the quickstart's own classes,
as the quickstart does. Takes about 3 minutes on 2 CPU cores.
"""

import argparse
from collections.abc import Iterator, Mapping
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs import quickstart
from decern_jax import models
from decern_jax.data.dataset import Dataset, Split
from decern_jax.data.pipeline import image_batches
from decern_jax.data.sources import rendered
from decern_jax.models import pretrained
from decern_jax.models.backbones import small_cnn
from decern_jax.ops.head import LinearHead, logits
from decern_jax.runs.experiment import make_recipe
from decern_jax.training.head import fit_head, init_head

OUTPUT = (
  pathlib.Path(models.__file__).parent / "weights" / "small_cnn.safetensors"
)
SEED = 0
# With more classes, the features become so good that one label per class solves
# the quickstart.
NUM_CLASSES = 24
TRAIN_PER_CLASS = 850
TEST_PER_CLASS = 25
BATCH_SIZE = 64
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-4
# Share of the mean variance. It bounds how far whitening stretches a direction.
WHITENING_FLOOR = 0.003
WHITENING_IMAGES = 6400
LABELS_PER_CLASS = (1, 3, 6, 12, None)
PROBE_SEEDS = range(5)
NUM_WORKERS = 2


def main() -> None:
  """Trains, writes the weights and probes them."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
  output = parser.parse_args().output
  dataset = rendered.load_pretraining(
    num_classes=NUM_CLASSES,
    train_per_class=TRAIN_PER_CLASS,
    test_per_class=TEST_PER_CLASS,
    seed=SEED,
  )
  variables, head = train(dataset)
  variables = small_cnn.fold_batch_norm(variables)
  share = accuracy(head, embed(variables, test_of(dataset)), dataset)
  print(f"held-out pictures of the pre-training classes: {share:.1%}")

  seen = np.arange(WHITENING_IMAGES)
  variables = whiten(variables, embed(variables, dataset.train, seen))
  variables = jax.tree.map(lambda x: np.asarray(x, np.float16), variables)
  output.parent.mkdir(parents=True, exist_ok=True)
  pretrained.save_safetensors(output, variables)
  print(f"{output}: {output.stat().st_size:,} bytes")
  report_probes(jax.tree.map(lambda x: x.astype(np.float32), variables))


def batches(
  split: Split, indices: np.ndarray | None = None
) -> Iterator[np.ndarray]:
  """Returns the images of a split, uint8 [batch, height, width, 3]."""
  return image_batches(
    split,
    lambda image: image,
    batch_size=BATCH_SIZE,
    num_workers=NUM_WORKERS,
    indices=indices,
  )


def normalise(images: jax.Array) -> jax.Array:
  """Maps 0..255 to [-1, 1], as the table of models does."""
  return images.astype(jnp.float32) / 127.5 - 1.0


def test_of(dataset: Dataset) -> Split:
  """Returns the test split, which every rendered data set has."""
  assert dataset.test is not None
  return dataset.test


def accuracy(head: LinearHead, features: np.ndarray, dataset: Dataset) -> float:
  """Returns the share of the test pictures that a head labels correctly."""
  scores = logits(head, jnp.asarray(features))
  return float((scores.argmax(axis=-1) == test_of(dataset).labels).mean())


def train(dataset: Dataset) -> tuple[dict, LinearHead]:
  """Trains on each picture once; returns the variables and the classifier."""
  labels = dataset.train.labels
  num_steps = len(labels) // BATCH_SIZE
  optimizer = optax.adamw(
    optax.warmup_cosine_decay_schedule(
      0.0, LEARNING_RATE, num_steps // 20, num_steps
    ),
    weight_decay=WEIGHT_DECAY,
  )
  step = make_step(optimizer)
  params, batch_stats = init(dataset)
  opt_state = optimizer.init(params)
  start = time.perf_counter()
  for i, images in zip(range(num_steps), batches(dataset.train), strict=False):
    rows = slice(i * BATCH_SIZE, (i + 1) * BATCH_SIZE)
    params, batch_stats, opt_state, loss = step(
      params, batch_stats, opt_state, images, labels[rows]
    )
    if (i + 1) % 50 == 0:
      seconds = time.perf_counter() - start
      print(f"step {i + 1}/{num_steps}: loss {loss:.3f}, {seconds:.0f} s")
  return {"params": params["model"], "batch_stats": batch_stats}, params["head"]


def init(dataset: Dataset) -> tuple[Mapping, Mapping]:
  """Returns fresh parameters of model and classifier, and batch statistics."""
  model_key, head_key = jax.random.split(jax.random.key(SEED))
  variables = small_cnn.SmallCNN(use_batch_norm=True).init(
    model_key, normalise(jnp.asarray(dataset.train.read(0)[None]))
  )
  head = init_head(head_key, dim=small_cnn.FEATURE_DIM, num_classes=NUM_CLASSES)
  return {"model": variables["params"], "head": head}, variables["batch_stats"]


def make_step(optimizer: optax.GradientTransformation):
  """Returns the jitted training step."""

  def compute_loss(params, batch_stats, images, labels):
    features, updates = small_cnn.SmallCNN(use_batch_norm=True).apply(
      {"params": params["model"], "batch_stats": batch_stats},
      normalise(images),
      mutable=["batch_stats"],
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(
      logits(params["head"], features), labels
    )
    return losses.mean(), updates["batch_stats"]

  @jax.jit
  def step(params, batch_stats, opt_state, images, labels):
    gradient = jax.value_and_grad(compute_loss, has_aux=True)
    (loss, batch_stats), grads = gradient(params, batch_stats, images, labels)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), batch_stats, opt_state, loss

  return step


def whiten(variables: dict, features: np.ndarray) -> dict:
  """Returns variables whose projection whitens the features.

  Features of the pre-training are dominated by the differences between its
  classes. White features let a head find the differences between other classes.

  Args:
    variables: Variables that gave the features. Their projection is the
      identity.
    features: [images, dim].
  """
  mean = features.mean(axis=0, dtype=np.float64)
  values, vectors = np.linalg.eigh(np.cov(features, rowvar=False))
  kernel = vectors / np.sqrt(values + WHITENING_FLOOR * values.mean())
  project = {"kernel": kernel, "bias": -mean @ kernel}
  return {"params": {**variables["params"], "project": project}}


def embed(
  variables: dict, split: Split, indices: np.ndarray | None = None
) -> np.ndarray:
  """Returns the features of a split, float32 [examples, dim]."""
  model = small_cnn.SmallCNN()
  apply = jax.jit(lambda images: model.apply(variables, normalise(images)))
  return np.concatenate([apply(images) for images in batches(split, indices)])


def report_probes(variables: dict) -> None:
  """Prints the accuracy of linear heads on the quickstart's classes."""
  dataset = rendered.load_rendered()
  start = time.perf_counter()
  train = embed(variables, dataset.train)
  test = embed(variables, test_of(dataset))
  rate = (len(train) + len(test)) / (time.perf_counter() - start)
  print(f"drawn and embedded: {rate:.0f} pictures per second")
  for count in LABELS_PER_CLASS:
    accuracies = [
      probe(train, test, dataset, count, seed) for seed in PROBE_SEEDS
    ]
    print(
      f"quickstart classes, {count or 'all'} labels per class: "
      f"{np.mean(accuracies):.1%} (deviation {np.std(accuracies):.1%})"
    )


def probe(
  train: np.ndarray,
  test: np.ndarray,
  dataset: Dataset,
  count: int | None,
  seed: int,
) -> float:
  """Returns the accuracy of a head trained on `count` examples per class."""
  labels, num_classes = dataset.train.labels, len(dataset.class_names)
  rows = np.random.default_rng(seed).permutation(len(labels))
  chosen = np.concatenate(
    [rows[labels[rows] == label][:count] for label in range(num_classes)]
  )
  # All heads get arrays of the same shape, so that one program serves them all.
  order = np.concatenate([chosen, np.setdiff1d(rows, chosen)])
  key = jax.random.key(seed)
  head, _ = fit_head(
    key,
    init_head(key, dim=train.shape[1], num_classes=num_classes),
    train[order],
    labels[order],
    jnp.int32(len(chosen)),
    recipe=make_recipe(quickstart.get_config()),
  )
  return accuracy(head, test, dataset)


if __name__ == "__main__":
  main()
