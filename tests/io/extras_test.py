"""Tests of decern_jax/io/extras.py."""

import sys

import pytest

from decern_jax.io import extras


class TestNeeded:
  def test_tells_what_is_missing_what_for_and_the_command(self, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with (
      pytest.raises(extras.MissingExtraError) as error,
      extras.needed("excel", "Reading a spreadsheet"),
    ):
      import openpyxl  # noqa: F401
    assert str(error.value) == (
      "Reading a spreadsheet needs the package openpyxl, which is not"
      " installed: pip install 'decern_jax[excel]'"
    )
    assert error.value.name == "openpyxl"

  def test_leaves_other_errors(self):
    with (
      pytest.raises(ValueError, match="other"),
      extras.needed("excel", "Reading a spreadsheet"),
    ):
      raise ValueError("other")


class TestCheckInstalled:
  def test_names_all_that_are_missing(self):
    modules = ("json", "no_such_module", "nor_this_one")
    with pytest.raises(
      extras.MissingExtraError,
      match=r"^It needs the packages no_such_module, nor_this_one, which are"
      r" not installed: pip install 'decern_jax\[run\]'$",
    ):
      extras.check_installed(modules, "run", "It")
    extras.check_installed(["json", "sys"], "run", "It")
