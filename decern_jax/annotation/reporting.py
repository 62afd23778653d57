"""The report of a run with people, from what the run knows."""

from collections.abc import Iterator, Mapping, Sequence

from etils import epath
import numpy as np

from decern_jax.annotation import hashes, query, taken
from decern_jax.annotation.answer import Answer
from decern_jax.annotation.quality import collect, cross_validation, document
from decern_jax.annotation.quality.collect import POOL
from decern_jax.annotation.resolution import resolve
from decern_jax.data.dataset import Dataset, Split
from decern_jax.io import storage
from decern_jax.ops import keys
from decern_jax.runs import experiment, records

FOLDER = "report"


def write(
  config,
  folder: epath.PathLike,
  assets: experiment.Assets,
  answers: tuple[Answer, ...],
) -> epath.Path:
  """Writes the report on a run with people as it is now.

  Args:
    config: The configuration.
    folder: Directory of the run.
    assets: What `experiment.load` returned for it.
    answers: All answers, in the order in which they came.

  Returns:
    The page.

  Raises:
    OSError: If it cannot be written, or an image cannot be read.
  """
  folder = storage.as_path(folder)
  splits = _splits(assets.dataset)
  place = {
    name: {id_: index for index, id_ in enumerate(split.ids)}
    for name, split in splits.items()
  }
  held = resolve(answers).labels
  labeled = tuple(sorted(held, key=place[POOL].get))
  class_names = _class_names(config, assets.dataset, held)
  queries = query.read_all(folder)
  asked = {item.id for found in queries for item in found.items}
  wanted = {name: split.ids for name, split in splits.items()}
  facts = collect.Facts(
    title=assets.dataset.name,
    class_names=class_names,
    num_images=len(splits[POOL].ids),
    queries=queries,
    answers=answers,
    records=tuple(records.read(folder)),
    labels_held_out=_labels_held_out(assets.dataset, splits),
    hashes=hashes.of_images(
      folder,
      assets.dataset.fingerprint,
      splits,
      {**wanted, POOL: {*asked, *labeled}},
      num_workers=assets.num_workers,
    ),
    probs=_predict(
      config,
      assets,
      np.array([place[POOL][id_] for id_ in labeled], int),
      _encode([held[id_] for id_ in labeled], class_names, assets.dataset),
      num_classes=len(class_names),
    ),
    labeled=labeled,
    is_multi_label=splits[POOL].labels.ndim > 1,
  )
  return document.write(
    collect.collect(facts),
    folder / FOLDER,
    read=lambda part, id_: splits[part].read(place[part][id_]),
  )


def _splits(dataset: Dataset) -> dict[str, Split]:
  """Returns the pool and the parts that are held out, by name."""
  splits = {name: getattr(dataset, name) for name in collect.PARTS}
  splits = {name: split for name, split in splits.items() if split is not None}
  return {POOL: dataset.train, **splits}


def _class_names(
  config, dataset: Dataset, held: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
  """Returns the classes, as the next round will name them."""
  first = dict.fromkeys([*dataset.class_names, *config.labels.class_names])
  return taken.name_classes(tuple(first), held)


def _labels_held_out(
  dataset: Dataset, splits: Mapping[str, Split]
) -> dict[str, dict[str, tuple[str, ...]]]:
  """Returns the labels of each image that is held out, by part and id."""
  held_out = {name: split for name, split in splits.items() if name != POOL}
  return {
    name: dict(zip(split.ids, _decode(split, dataset.class_names), strict=True))
    for name, split in held_out.items()
  }


def _decode(
  split: Split, class_names: Sequence[str]
) -> Iterator[tuple[str, ...]]:
  """Yields the labels of each image of a part."""
  for row in np.asarray(split.labels):
    labels = [row] if row.ndim == 0 else np.flatnonzero(row)
    yield tuple(class_names[label] for label in labels)


def _encode(
  labels: Sequence[tuple[str, ...]],
  class_names: Sequence[str],
  dataset: Dataset,
) -> np.ndarray:
  """Returns labels as a model is trained on them."""
  place = {name: index for index, name in enumerate(class_names)}
  if dataset.train.labels.ndim == 1:
    return np.array([place[name] for (name,) in labels], np.int32)
  encoded = np.zeros((len(labels), len(place)), np.int32)
  for row, names in zip(encoded, labels, strict=True):
    row[[place[name] for name in names]] = 1
  return encoded


def _predict(
  config,
  assets: experiment.Assets,
  positions: np.ndarray,
  labels: np.ndarray,
  *,
  num_classes: int,
) -> np.ndarray | None:
  """Returns what a model says of labels that it did not see."""
  if len(positions) < cross_validation.NUM_FOLDS or num_classes < 2:
    return None
  return cross_validation.predict_out_of_sample(
    keys.seed_key(config.seeds[0], "report"),
    experiment.first_features(config, assets, positions),
    labels,
    num_classes=num_classes,
  )
