"""Explains the selections of a run with people, and writes its report."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from decern_jax.annotation import images, query
from decern_jax.annotation.quality import findings, label_errors, report_files
from decern_jax.annotation.quality.findings import HELD_OUT, POOL
from decern_jax.annotation.state import Answer, resolve
from decern_jax.data.dataset import Dataset, Split
from decern_jax.distributed.sharding import take_replicated, to_host
from decern_jax.features import embedding
from decern_jax.io import storage
from decern_jax.ops import keys
from decern_jax.ops.distances import cosine_similarity
from decern_jax.ops.multilabel_metrics import THRESHOLD
from decern_jax.report.statistics import bootstrap_macro_f1
from decern_jax.runs import experiment, records
from decern_jax.runs.config import Config
from decern_jax.training import rounds
from decern_jax.training.learner import Fit, PlacedSplit

FOLDER = "report"

NUM_PREDICTIONS = 5
NUM_NEAREST = 3

# Pool rows that are compared with the selected ones at once, which bounds the
# memory of the similarities.
BLOCK_ROWS = 8192


def explain(
  model: Fit,
  splits: dict[str, PlacedSplit],
  state: rounds.RoundState,
  selected: Int[np.ndarray, " selected"],
  *,
  ids: tuple[str, ...],
  class_names: tuple[str, ...],
) -> dict[str, Any]:
  """Describes why images were selected, by the model and the other images.

  Returns:
    For each selected image, if there are any: "predictions", its likeliest
    classes and their probabilities; "nearest_labeled", the ids of the labeled
    images with the most similar features, and the cosine similarities;
    "cluster_sizes", the number of unlabeled images (itself included) whose
    features are more similar to it than to any other selected image. And for
    each held-out split, if images may have several labels: "intervals", the
    confidence interval of macro F1.
  """
  found = {}
  held_out = {name: split for name, split in splits.items() if name != "train"}
  if any(split.labels.ndim > 1 for split in held_out.values()):
    found["intervals"] = {
      name: _interval(model, split) for name, split in held_out.items()
    }
  if not len(selected):
    return found
  pool = splits["train"]
  features = jnp.asarray(take_replicated(pool.features, selected))
  probs = embedding.predict(
    model.head, features, is_multi_label=pool.labels.ndim > 1
  )
  return found | {
    "predictions": _predictions(np.asarray(probs), class_names),
    "nearest_labeled": _nearest_labeled(pool, features, state, ids),
    "cluster_sizes": _cluster_sizes(pool, features, state),
  }


def _predictions(
  probs: np.ndarray, class_names: tuple[str, ...]
) -> list[list[list]]:
  best = np.argsort(-probs, axis=1, kind="stable")[:, :NUM_PREDICTIONS]
  return [
    [[class_names[c], round(float(probs[row, c]), 4)] for c in classes]
    for row, classes in enumerate(best)
  ]


def _nearest_labeled(
  pool: PlacedSplit,
  features: Float[Array, "selected dim"],
  state: rounds.RoundState,
  ids: tuple[str, ...],
) -> list[list[list]]:
  labeled = np.flatnonzero(state.labeled)
  known = jnp.asarray(take_replicated(pool.features, labeled))
  cosines = np.asarray(cosine_similarity(features, known))
  best = np.argsort(-cosines, axis=1, kind="stable")[:, :NUM_NEAREST]
  return [
    [[ids[labeled[i]], round(float(cosines[row, i]), 4)] for i in nearest]
    for row, nearest in enumerate(best)
  ]


def _cluster_sizes(
  pool: PlacedSplit,
  features: Float[Array, "selected dim"],
  state: rounds.RoundState,
) -> list[int]:
  counts = np.zeros(len(features), int)
  unlabeled = np.flatnonzero(~state.labeled)
  for start in range(0, len(unlabeled), BLOCK_ROWS):
    indices = unlabeled[start : start + BLOCK_ROWS]
    # The last block is padded, so that one program serves all blocks.
    padded = np.resize(indices, min(BLOCK_ROWS, len(unlabeled)))
    others = jnp.asarray(take_replicated(pool.features, padded))
    # Features that the round did not compute are zero.
    is_computed = np.asarray(jnp.any(others != 0, axis=1))[: len(indices)]
    nearest = np.asarray(
      jnp.argmax(cosine_similarity(others, features), axis=1)
    )
    counts += np.bincount(
      nearest[: len(indices)][is_computed], minlength=len(counts)
    )
  return counts.tolist()


def _interval(model: Fit, split: PlacedSplit) -> tuple[float, float] | None:
  is_valid = to_host(split.valid)
  probs = embedding.predict(model.head, split.features, is_multi_label=True)
  predicted = to_host(probs)[is_valid] >= THRESHOLD
  return bootstrap_macro_f1(predicted, to_host(split.labels)[is_valid] > 0)


def write(
  config: Config,
  folder: epath.PathLike,
  assets: experiment.Assets,
  answers: tuple[Answer, ...],
  *,
  class_names: tuple[str, ...],
) -> epath.Path:
  """Writes the report on a run with people as it is now.

  Args:
    config: The configuration.
    folder: Directory of the run.
    assets: The assets of the configuration, from `experiment.load`.
    answers: All answers, in the order in which they arrived.
    class_names: All classes so far.

  Returns:
    The HTML page.

  Raises:
    OSError: If the report cannot be written, or an image cannot be read.
  """
  folder = storage.as_path(folder)
  splits = _named_splits(assets.dataset)
  index_of = {
    name: {id_: index for index, id_ in enumerate(split.ids)}
    for name, split in splits.items()
  }
  labels = resolve(answers).labels
  labeled = tuple(sorted(labels, key=index_of[POOL].__getitem__))
  queries = query.read_all(folder)
  queried = {item.id for found in queries for item in found.items}
  to_hash = {name: split.ids for name, split in splits.items()}
  facts = findings.Facts(
    title=assets.dataset.name,
    class_names=class_names,
    num_images=len(splits[POOL].ids),
    queries=queries,
    answers=answers,
    records=tuple(records.read(folder)),
    labels_held_out=_labels_held_out(assets.dataset, splits),
    hashes=images.hash_images(
      folder,
      assets.dataset.fingerprint,
      splits,
      {**to_hash, POOL: queried},
      num_workers=assets.num_workers,
    ),
    probs=_predict_labeled(
      config,
      assets,
      np.array([index_of[POOL][id_] for id_ in labeled], int),
      _encode([labels[id_] for id_ in labeled], class_names, assets.dataset),
      num_classes=len(class_names),
    ),
    labeled=labeled,
    is_multi_label=splits[POOL].labels.ndim > 1,
  )
  return report_files.write(
    findings.collect(facts),
    folder / FOLDER,
    read=lambda name, id_: splits[name].read(index_of[name][id_]),
  )


def _named_splits(dataset: Dataset) -> dict[str, Split]:
  """Returns the pool and the held-out splits by name."""
  splits = {POOL: dataset.train}
  for name in HELD_OUT:
    if (split := getattr(dataset, name)) is not None:
      splits[name] = split
  return splits


def _labels_held_out(
  dataset: Dataset, splits: Mapping[str, Split]
) -> dict[str, dict[str, tuple[str, ...]]]:
  """Returns the labels of each held-out image, by split and id."""
  return {
    name: dict(zip(split.ids, _decode(split, dataset.class_names), strict=True))
    for name, split in splits.items()
    if name != POOL
  }


def _decode(
  split: Split, class_names: Sequence[str]
) -> Iterator[tuple[str, ...]]:
  """Yields the names of the labels of each image."""
  for row in np.asarray(split.labels):
    labels = np.flatnonzero(row) if np.ndim(row) else [row]
    yield tuple(class_names[int(label)] for label in labels)


def _encode(
  labels: Sequence[tuple[str, ...]],
  class_names: Sequence[str],
  dataset: Dataset,
) -> Int[np.ndarray, "labeled ..."]:
  """Returns labels in the form that a model is trained on."""
  index_of = {name: index for index, name in enumerate(class_names)}
  if dataset.train.labels.ndim == 1:
    return np.array([index_of[name] for (name,) in labels], np.int32)
  encoded = np.zeros((len(labels), len(index_of)), np.int32)
  for row, names in zip(encoded, labels, strict=True):
    row[[index_of[name] for name in names]] = 1
  return encoded


def _predict_labeled(
  config: Config,
  assets: experiment.Assets,
  indices: Int[np.ndarray, " labeled"],
  labels: Int[np.ndarray, "labeled ..."],
  *,
  num_classes: int,
) -> Float[np.ndarray, "labeled classes"] | None:
  """Predicts the labeled images by models trained without their labels.

  Returns:
    The probabilities, or None if there are too few labels or classes.
  """
  if len(indices) < label_errors.NUM_FOLDS or num_classes < 2:
    return None
  return label_errors.predict_out_of_sample(
    keys.seed_key(config.seeds[0], "report"),
    experiment.first_features(config, assets, indices),
    labels,
    num_classes=num_classes,
  )
