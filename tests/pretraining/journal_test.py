"""Tests of decern_jax/pretraining/journal.py."""

import pytest

from decern_jax.pretraining import journal
from tests.table import each


def make_records(count=3, *, metric="knn_accuracy"):
  records = [
    {"epoch": 0, "probe": {metric: 0.25}, "seconds": {"train": 0.0, "probe": 1}}
  ]
  for epoch in range(1, count):
    records.append(
      {
        "epoch": epoch,
        "loss": 5.0 / epoch,
        "learning_rate": 0.1,
        "images_per_second": 12.3,
        "seconds": {"train": 2.5},
      }
    )
  return records


class TestRead:
  def test_returns_what_was_written(self, tmp_path):
    for count in (3, 2):
      journal.write(tmp_path, make_records(count))
      assert journal.read(tmp_path) == make_records(count)

  def test_without_a_file_is_empty(self, tmp_path):
    assert journal.read(tmp_path) == []

  @each("content", ["no json\n", "[1]\n", '{"epoch": 1}\n', '{"round": 0}\n'])
  def test_refuses_anything_else(self, tmp_path, content):
    (tmp_path / journal.FILE_NAME).write_text(content)
    with pytest.raises(ValueError, match="Expected .* in .*epochs.jsonl, got"):
      journal.read(tmp_path)


class TestWrite:
  def test_leaves_one_line_per_epoch_and_no_other_file(self, tmp_path):
    journal.write(tmp_path, make_records())
    (path,) = tmp_path.iterdir()
    assert len(path.read_text().splitlines()) == 3

  def test_refuses_what_is_no_json(self, tmp_path):
    with pytest.raises(ValueError, match="JSON"):
      journal.write(tmp_path, [{"epoch": 0, "loss": float("nan")}])


class TestDescribe:
  def test_tells_of_loss_speed_and_probe(self):
    first, second, _ = make_records()
    assert journal.describe(first) == "epoch 0: knn accuracy 25.0 %, 1.0 s"
    expected = "epoch 1: loss 5.0000, 12 images/s, 2.5 s"
    assert journal.describe(second) == expected
