"""What is written is read by the tools themselves, where they are installed.

  pip install datumaro label-studio-sdk fiftyone cvat-sdk
  python -m pytest -m slow tests/annotation/formats/real_tools_test.py

FiftyOne needs FIFTYONE_DATABASE_URI, the address of a MongoDB.
"""

import json
import os
import shutil

import numpy as np
from PIL import Image
import pytest

from decern_jax.annotation import formats
from tests.annotation.formats import queries

pytestmark = [
  pytest.mark.slow,
  # Of packages that are not this project's.
  pytest.mark.filterwarnings("ignore"),
]

several = pytest.mark.parametrize("is_multi_label", [False, True])


@pytest.fixture
def images(tmp_path):
  for id_ in queries.IDS:
    path = tmp_path / "images" / id_
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(path)
  return tmp_path / "images"


def written(name, folder, images, is_multi_label):
  asked = queries.query(is_multi_label=is_multi_label, folder=str(images))
  formats.FORMATS[name].write(asked, folder)
  return asked


@several
def test_datumaro_imports_labels_and_exports(images, tmp_path, is_multi_label):
  datumaro = pytest.importorskip("datumaro")
  written("datumaro", tmp_path, images, is_multi_label)
  folder = tmp_path / "datumaro"
  # Copied: it follows no links out of its folder.
  shutil.copytree(images, folder / "images" / "default")
  assert datumaro.Environment().detect_dataset(str(folder)) == ["datumaro"]
  dataset = datumaro.Dataset.import_from(str(folder), "datumaro")
  for item in list(dataset):
    assert item.media.data.shape == (6, 8, 3)
    item.annotations = [datumaro.Label(1)]
    dataset.put(item)
  for name in ("datumaro", "cvat"):
    dataset.export(str(tmp_path / name / "out"), name, save_media=False)
    (path,) = (
      path
      for path in (tmp_path / name / "out").rglob("*")
      if path.suffix in (".json", ".xml")
    )
    found = formats.read_file(path)
    assert queries.said(found) == dict.fromkeys(queries.IDS, ('dog & "wolf"',))


@several
def test_label_studio_takes_tasks_and_config(images, tmp_path, is_multi_label):
  sdk = pytest.importorskip("label_studio_sdk.label_interface")
  written("label_studio", tmp_path, images, is_multi_label)
  config = (tmp_path / "label_studio_config.xml").read_text()
  interface = sdk.LabelInterface(config)
  interface.validate()
  tasks = json.loads((tmp_path / "label_studio_tasks.json").read_text())
  for task in tasks:
    assert interface.validate_task({"data": task["data"]})
    for prediction in task["predictions"]:
      assert interface.validate_prediction(prediction)


@several
def test_fiftyone_imports_labels_and_exports(images, tmp_path, is_multi_label):
  if "FIFTYONE_DATABASE_URI" not in os.environ:
    pytest.skip("no FIFTYONE_DATABASE_URI")
  fiftyone = pytest.importorskip("fiftyone")
  asked = written("fiftyone", tmp_path, images, is_multi_label)
  dataset = fiftyone.Dataset.from_dir(
    str(tmp_path / "fiftyone"), dataset_type=fiftyone.types.FiftyOneDataset
  )
  kind = "predictions" + ".classifications" * is_multi_label + ".confidence"
  shown = [0.75, 0.5] if is_multi_label else 0.75
  assert dataset.values(kind) == [shown] * len(queries.IDS)
  assert dataset.values("filepath") == [item.path for item in asked.items]
  for sample in dataset:
    label = fiftyone.Classification(label="zebra")
    labels = fiftyone.Classifications(classifications=[label])
    sample["ground_truth"] = labels if is_multi_label else label
    sample.save()
  dataset.export(
    export_dir=str(tmp_path / "out"),
    dataset_type=fiftyone.types.FiftyOneDataset,
    export_media=False,
  )
  dataset.delete()
  found = formats.read_file(tmp_path / "out" / "samples.json")
  assert queries.said(found) == dict.fromkeys(queries.IDS, ("zebra",))


@several
def test_cvat_takes_the_labels(images, tmp_path, is_multi_label):
  cvat_sdk = pytest.importorskip("cvat_sdk")
  written("cvat", tmp_path, images, is_multi_label)
  labels = json.loads((tmp_path / "cvat_labels.json").read_text())
  request = cvat_sdk.models.TaskWriteRequest(
    name="round 3",
    labels=[cvat_sdk.models.PatchedLabelRequest(**label) for label in labels],
  )
  assert [label["name"] for label in request.labels][:3] == [*queries.NAMES]
