"""Makes datumaro_*.json and cvat_*.xml with Datumaro, in this folder."""
# pyright: reportMissingImports=false

from collections import OrderedDict
import pathlib
import shutil
import tempfile

import datumaro
from datumaro.components.media import Image
from datumaro.plugins.data_formats.cvat.exporter import XmlAnnotationWriter

NAMES = ["cat", 'dog & "wolf"', "zebra", "?", "-"]
ENDINGS = {"ünï": ".png"}
LABELS = {
  "single": {"cats/1": [0], "a b": [1], "ünï": [2], "plain": [], "many": [3]},
  "several": {
    "cats/1": [0],
    "a b": [1, 2],
    "ünï": [4],
    "plain": [],
    "many": [3],
  },
}
OUT = pathlib.Path(__file__).parent


def main():
  for name, labels in LABELS.items():
    items = [
      datumaro.DatasetItem(
        id=stem,
        subset="default",
        media=Image.from_file(
          path=stem + ENDINGS.get(stem, ".jpg"), size=(6, 8)
        ),
        annotations=[datumaro.Label(label) for label in found],
        attributes={"frame": number},
      )
      for number, (stem, found) in enumerate(labels.items())
    ]
    dataset = datumaro.Dataset.from_iterable(items, categories=NAMES)
    with tempfile.TemporaryDirectory() as folder:
      for kind in ("datumaro", "cvat"):
        dataset.export(f"{folder}/{kind}", kind, save_media=False)
      found = pathlib.Path(folder)
      shutil.copy(
        found / "datumaro/annotations/default.json",
        OUT / f"datumaro_{name}.json",
      )
      shutil.copy(found / "cvat/default.xml", OUT / f"cvat_{name}.xml")
  with (OUT / "cvat_task.xml").open("w", encoding="utf-8") as file:
    write_task(XmlAnnotationWriter(file))


def write_task(writer):
  """Writes a task as CVAT does, with names that it changed on upload."""
  person = OrderedDict(username="mira", email="mira@example.com")
  task = OrderedDict(
    id="7",
    name="round 3",
    size="3",
    mode="annotation",
    subset="default",
    created="2026-11-20 08:00:00.000000+00:00",
    labels=[("label", OrderedDict(name=n, type="tag")) for n in NAMES],
    owner=OrderedDict(username="admin", email="admin@example.com"),
    assignee=person,
  )
  writer.open_root()
  writer.write_meta(
    OrderedDict(task=task, dumped="2026-11-21 09:30:00.123456+00:00")
  )
  tags = {"1.jpg": ["cat", "zebra"], "line\nbreak.jpg": ["-"], "c.png": []}
  for number, (name, labels) in enumerate(tags.items()):
    writer.open_image(
      OrderedDict(id=str(number), name=name, width="8", height="6")
    )
    for label in labels:
      writer.open_tag(OrderedDict(label=label, source="manual"))
      writer.close_tag()
    writer.close_image()
  writer.close_root()


if __name__ == "__main__":
  main()
