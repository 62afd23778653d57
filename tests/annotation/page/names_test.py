"""Tests of decern_jax/annotation/page/names.js, called as the page does."""

import json


class TestNames:
  def call(self, browser, function, *arguments):
    given = json.dumps(arguments)[1:-1]
    return browser.evaluate(
      f"import('./names.js').then(names => names.{function}({given}))"
    )

  def test_find_and_tell_apart(self, open_page, browser):
    open_page()
    names = ["crab", "red-ale", "ale", "Alder", "pale ale", "Ålesund"]
    beginnings_first = ["ale", "Alder", "Ålesund", "red-ale", "pale ale"]
    assert self.call(browser, "find", names, "al") == beginnings_first
    assert self.call(browser, "find", ["c", "C", "Cc"], "C") == ["C", "c", "Cc"]
    for text, found in (
      ("appel", ["apple"]),
      ("aple", ["apple"]),
      ("xyz", []),
      ("fi", ["fig"]),
    ):
      assert self.call(browser, "findClose", ["apple", "fig"], text) == found
    assert self.call(browser, "tidy", "  e\u0301  a ") == "\u00e9 a"
