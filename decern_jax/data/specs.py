"""The table of known data sets: one row each, facts only."""

from typing import NamedTuple

UNLABELED = "unlabeled_folder"
"""The source whose labels come from people."""


class DatasetSpec(NamedTuple):
  """Where a data set comes from and how large it is.

  Attributes:
    source: Who reads it, a key of `sources`' table of loaders.
    tfds_name: Name in tfds.
    train_split: Split of tfds that is the pool.
    test_split: Split of tfds that accuracy is reported on.
    val_split: Split of tfds that is held out besides, or None.
    split_file_url: Where the split file is published that divides the images of
      both splits of tfds anew, or None: the splits are those of tfds.
    image_key: Feature of tfds that holds the image.
    band_keys: Features of tfds that hold one band of the image each, instead.
    band_range: What becomes 0 and 255 of those.
    label_key: Feature of tfds that holds the class.
    file_key: Feature of tfds that holds the name of the image's file; needed
      with a split file or a file of labels only.
    num_classes: Published number of classes, or None.
    num_train: Published number of examples in the pool, or None.
    num_test: Published number of test examples, or None.
  """

  source: str
  tfds_name: str = ""
  train_split: str = "train"
  test_split: str = "test"
  val_split: str | None = None
  split_file_url: str | None = None
  image_key: str = "image"
  band_keys: tuple[str, ...] = ()
  band_range: tuple[float, float] | None = None
  label_key: str = "label"
  file_key: str = ""
  num_classes: int | None = None
  num_train: int | None = None
  num_test: int | None = None


_BIGEARTHNET = DatasetSpec(
  source="tfds_multilabel",
  tfds_name="bigearthnet/rgb",
  train_split="train[:60%]",
  val_split="train[60%:80%]",
  test_split="train[80%:]",
  label_key="labels",
  num_classes=43,
)

DATASETS: dict[str, DatasetSpec] = {
  "bigearthnet": _BIGEARTHNET,
  "bigearthnet_all": _BIGEARTHNET._replace(
    tfds_name="bigearthnet/all",
    band_keys=(
      *("B01", "B02", "B03", "B04", "B05", "B06"),
      *("B07", "B08", "B8A", "B09", "B11", "B12"),
    ),
    # This project's choice; tfds clips the colors at 2000.
    band_range=(0.0, 4000.0),
  ),
  "bronze_ding": DatasetSpec(
    source="bronze_ding",
    num_classes=11,
    num_train=1470,
  ),
  "caltech101": DatasetSpec(
    source="tfds",
    tfds_name="caltech101",
    # That of CoOp, split_zhou_Caltech101.json: without background images and
    # the second class of faces.
    split_file_url="https://drive.google.com/file/d/"
    "1hyarUivQE36mY6jSomru6Fjd-JzwcCzN/view",
    file_key="image/file_name",
    num_classes=100,
    num_train=4128,
    num_test=2465,
  ),
  "caltech_birds2011": DatasetSpec(
    source="tfds",
    tfds_name="caltech_birds2011",
    num_classes=200,
    num_train=5994,
    num_test=5794,
  ),
  "food101": DatasetSpec(
    source="tfds",
    tfds_name="food101",
    test_split="validation",  # what tfds calls the test images
    num_classes=101,
    num_train=75750,
    num_test=25250,
  ),
  "image_folder": DatasetSpec(source="image_folder"),
  "label_file": DatasetSpec(source="label_file"),
  "oxford_flowers102": DatasetSpec(
    source="tfds",
    tfds_name="oxford_flowers102",
    num_classes=102,
    num_train=1020,
    num_test=6149,
  ),
  "oxford_iiit_pet": DatasetSpec(
    source="tfds",
    tfds_name="oxford_iiit_pet",
    num_classes=37,
    num_train=3680,
    num_test=3669,
  ),
  "rendered": DatasetSpec(source="rendered"),
  "rendered_land_cover": DatasetSpec(source="rendered_land_cover"),
  "stanford_dogs": DatasetSpec(
    source="tfds",
    tfds_name="stanford_dogs",
    num_classes=120,
    num_train=12000,
    num_test=8580,
  ),
  # The labels of land cover come from a file that the user has.
  "uc_merced": DatasetSpec(
    source="tfds_label_file",
    tfds_name="uc_merced",
    file_key="filename",
    num_classes=17,
    num_train=2100,
  ),
  # The labels come from people.
  "unlabeled_folder": DatasetSpec(source=UNLABELED),
}


def is_unlabeled(name: str) -> bool:
  """Says whether the labels of a data set come from people.

  Args:
    name: Name of the data set; one that is not in the table has labels.
  """
  return name in DATASETS and DATASETS[name].source == UNLABELED
