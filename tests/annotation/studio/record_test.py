"""Tests of decern_jax/annotation/studio/record.py."""

import pytest

from decern_jax.annotation.studio import record
from tests.annotation.studio.fake import URL
from tests.table import each


class TestMake:
  def test_marks_differ(self):
    assert record.make(URL).mark != record.make(URL).mark

  def test_project_is_not_known(self):
    assert record.make(URL).project is None


class TestRead:
  def test_run_without_one(self, tmp_path):
    assert record.read(tmp_path) is None

  @each("project", [None, 7])
  def test_returns_what_was_written(self, tmp_path, project):
    written = record.make(URL)._replace(project=project)
    record.write(tmp_path, written)
    assert record.read(tmp_path) == written

  @each(
    "content",
    [
      "",
      "{",
      "[]",
      "{}",
      '{"url": "u", "mark": "m", "project": "7"}',
      '{"url": "u", "mark": "m", "project": true}',
      '{"url": 1, "mark": "m"}',
      '{"url": "u", "mark": ""}',
      '{"url": "u", "mark": "m", "key": "k"}',
      "[" * 100_000,
    ],
  )
  def test_rejects_what_is_none(self, tmp_path, content):
    (tmp_path / record.FILE_NAME).write_text(content)
    with pytest.raises(ValueError, match="the url, mark and project of a run"):
      record.read(tmp_path)
