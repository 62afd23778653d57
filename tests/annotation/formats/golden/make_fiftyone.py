"""Makes fiftyone_*.json with FiftyOne, in this folder.

Needs MongoDB: FIFTYONE_DATABASE_URI=mongodb://127.0.0.1:27017.
"""
# pyright: reportMissingImports=false

import pathlib
import shutil
import tempfile

import fiftyone as fo

LABELS = {
  "single": [["cat"], ['dog & "wolf"'], ["zebra"], None, ["?"]],
  "several": [["cat"], ['dog & "wolf"', "zebra"], [], None, ["?"]],
}
IDS = ["cats/1.jpg", "a b.jpg", "ünï.png", "plain.jpg", "many.jpg"]
OUT = pathlib.Path(__file__).parent


def labels_of(names, is_single, confidence=None):
  parts = [fo.Classification(label=n, confidence=confidence) for n in names]
  return parts[0] if is_single else fo.Classifications(classifications=parts)


def main():
  for name, labels in LABELS.items():
    dataset = fo.Dataset()
    is_single = name == "single"
    for id_, names in zip(IDS, labels, strict=True):
      sample = fo.Sample(filepath=f"/images/{id_}")
      if names is not None:
        sample["ground_truth"] = labels_of(names, is_single)
      sample["predictions"] = labels_of(["cat"], is_single, 0.75)
      dataset.add_sample(sample)
    with tempfile.TemporaryDirectory() as folder:
      dataset.export(
        export_dir=folder,
        dataset_type=fo.types.FiftyOneDataset,
        export_media=False,
        rel_dir="/images",
      )
      found = pathlib.Path(folder) / "samples.json"
      shutil.copy(found, OUT / f"fiftyone_{name}.json")
    dataset.delete()


if __name__ == "__main__":
  main()
