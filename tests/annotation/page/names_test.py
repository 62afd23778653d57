"""Tests of decern_jax/labeling/page/names.js, called as the page does."""

import json

import pytest

from tests.annotation.page.browser import find
from tests.table import each

pytestmark = pytest.mark.skipif(find() is None, reason="no Chromium")


class TestNames:
  def call(self, browser, function, *arguments):
    given = json.dumps(arguments)[1:-1]
    return browser.evaluate(
      f"import('./names.js').then(names => names.{function}({given}))"
    )

  def test_finds_beginnings_before_the_rest(self, open_page, browser):
    open_page()
    names = ["crab", "red-ale", "ale", "Alder", "pale ale", "Ålesund"]
    assert self.call(browser, "find", names, "al") == [
      "ale",
      "Alder",
      "Ålesund",
      "red-ale",
      "pale ale",
    ]

  def test_finds_the_very_name_first(self, open_page, browser):
    open_page()
    assert self.call(browser, "find", ["c", "C", "Cc"], "C") == ["C", "c", "Cc"]

  @each(
    "text, found",
    [("appel", ["apple"]), ("aple", ["apple"]), ("xyz", []), ("fi", ["fig"])],
  )
  def test_finds_what_is_close(self, open_page, browser, text, found):
    open_page()
    assert self.call(browser, "findClose", ["apple", "fig"], text) == found

  def test_tidies_as_text_is_kept(self, open_page, browser):
    open_page()
    assert self.call(browser, "tidy", "  e\u0301  a ") == "\u00e9 a"
