"""Fixtures of tests of launching."""

import pytest

from tests.launch import cloud as fakes


@pytest.fixture
def cloud(tmp_path):
  with fakes.Cloud(tmp_path) as cloud:
    yield cloud
