"""Tests of decern_jax/annotation/page/address.py."""

import os

import pytest

from decern_jax.annotation.page import address
from decern_jax.annotation.page.address import Address
from tests.table import each

KEPT = Address(1234, "x" * 32)


@pytest.fixture
def path(tmp_path):
  return tmp_path / address.FILE_NAME


class TestAddress:
  def test_url_is_of_this_machine_alone(self):
    assert KEPT.url == f"http://127.0.0.1:1234/{'x' * 32}/"


class TestChoose:
  def test_returns_what_was_kept(self, path):
    address.keep(path, KEPT)
    assert address.choose(path) == KEPT

  def test_secrets_are_long_and_differ(self, path):
    first, second = address.choose(path), address.choose(path)
    assert first.port == second.port == 0
    assert first.token != second.token
    assert len(first.token) == 32  # 192 bits

  @each("mode", [0o640, 0o604, 0o620])
  def test_trusts_no_file_that_is_open_to_others(self, path, mode):
    address.keep(path, KEPT)
    path.chmod(mode)
    assert address.choose(path).token != KEPT.token

  @each(
    "content",
    [
      "",
      "[]",
      "{}",
      '{"port": 1234, "token": ""}',
      '{"port": 1234, "token": 5}',
      '{"port": 0, "token": "' + "x" * 32 + '"}',
      '{"port": "a", "token": "' + "x" * 32 + '"}',
      '{"port": 1234, "token": "' + "/" * 32 + '"}',
    ],
  )
  def test_a_broken_file_is_as_none(self, path, content):
    path.write_text(content)
    path.chmod(0o600)
    found = address.choose(path)
    assert found.port == 0
    assert len(found.token) == 32


class TestKeep:
  def test_nobody_else_can_read_it(self, path):
    path.write_text("older")
    path.chmod(0o666)
    before = os.umask(0)
    try:
      address.keep(path, KEPT)
    finally:
      os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600

  def test_follows_no_link(self, path, tmp_path):
    target = tmp_path / "target"
    target.write_text("mine")
    path.symlink_to(target)
    address.keep(path, KEPT)
    assert target.read_text() == "mine"
    assert address.choose(path) == KEPT

  def test_goes_on_where_nothing_can_be_written(self, tmp_path):
    address.keep(tmp_path / "no folder" / "file", KEPT)
    assert not (tmp_path / "no folder").exists()
