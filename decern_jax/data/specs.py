"""The table of known data sets: one row each, facts only."""

from typing import NamedTuple


class DatasetSpec(NamedTuple):
  """Where a data set comes from and how large it is.

  Attributes:
    source: Who reads it: "image_folder", "rendered" or "tfds".
    tfds_name: Name in tfds.
    train_split: Split of tfds that is the pool.
    test_split: Split of tfds that accuracy is reported on.
    val_split: Split of tfds that is held out besides, or None.
    image_key: Feature of tfds that holds the image.
    label_key: Feature of tfds that holds the class.
    num_classes: Published number of classes, or None.
    num_train: Published number of examples in the pool, or None.
    num_test: Published number of test examples, or None.
  """

  source: str
  tfds_name: str = ""
  train_split: str = "train"
  test_split: str = "test"
  val_split: str | None = None
  image_key: str = "image"
  label_key: str = "label"
  num_classes: int | None = None
  num_train: int | None = None
  num_test: int | None = None


DATASETS: dict[str, DatasetSpec] = {
  "caltech_birds2011": DatasetSpec(
    source="tfds",
    tfds_name="caltech_birds2011",
    num_classes=200,
    num_train=5994,
    num_test=5794,
  ),
  "image_folder": DatasetSpec(source="image_folder"),
  "rendered": DatasetSpec(source="rendered"),
}
