"""Tests of the page, driven by the keyboard in a real browser."""

from decern_jax.annotation import query
from tests.annotation.page import asked
from tests.annotation.page.driving import (
  options,
  said,
  shown,
  wait_for,
  wait_for_phase,
)


class TestOneLabel:
  def test_keys_choose_the_likeliest_first(self, open_page, browser):
    workdir = open_page()
    assert options(browser) == [
      ["1", "Pear", "75 %"],
      ["2", "Zebra", "13 %"],
      ["3", "Apple"],
      ["4", "Red-Apple"],
    ]
    for index, key in enumerate("1324"):
      browser.press(key)
      wait_for(browser, index + 1)
    assert said(workdir) == [
      (0, ("Pear",)),
      (1, ("Apple",)),
      (2, ("Zebra",)),
      (3, ("Red-Apple",)),
    ]
    assert shown(browser, "status") == "Saved: Red-Apple (image 4)."
    assert shown(browser, "count") == "Image 5 of 6 · 4 answered"

  def test_typing_finds_and_enter_takes(self, open_page, browser):
    workdir = open_page()
    browser.type("apP")
    assert [row[0] for row in options(browser)] == [
      "Apple",
      "Red-Apple",
      "New class: apP",
    ]
    browser.press("ArrowDown")
    browser.press("Enter")
    wait_for(browser, 1)
    assert said(workdir) == [(0, ("Red-Apple",))]

  def test_new_class_is_added_when_it_is_confirmed(self, open_page, browser):
    workdir = open_page()
    browser.type("Pearl 7")
    assert [row[0] for row in options(browser)] == ["New class: Pearl 7"]
    browser.press("Enter")
    assert "is not a known class. Enter again adds it" in shown(browser, "hint")
    assert said(workdir) == []
    browser.press("Enter")
    wait_for(browser, 1)
    assert said(workdir) == [(0, ("Pearl 7",))]
    assert ["5", "Pearl 7"] in options(browser)

  def test_slip_of_the_keyboard_is_shown_what_it_is_near(
    self, open_page, browser
  ):
    open_page()
    browser.type("Zbra")
    assert [row[0] for row in options(browser)] == ["New class: Zbra", "Zebra"]

  def test_what_is_typed_again_asks_again(self, open_page, browser):
    workdir = open_page()
    browser.type("plu")
    browser.press("Enter")
    browser.press("m")
    browser.press("Enter")
    assert "“plum” is not a known class" in shown(browser, "hint")
    browser.press("Escape")
    assert shown(browser, "hint") == ""
    assert said(workdir) == []

  def test_digits_are_letters_after_a_slash(self, open_page, browser):
    workdir = open_page(class_names=("3D print", "Pear"))
    browser.type("/3")
    browser.press("Enter")
    wait_for(browser, 1)
    assert said(workdir) == [(0, ("3D print",))]

  def test_space_skips(self, open_page, browser):
    workdir = open_page()
    browser.press(" ")
    wait_for(browser, 1)
    assert said(workdir) == [(0, None)]

  def test_space_is_a_letter_of_a_name(self, open_page, browser):
    workdir = open_page()
    browser.type("red apple")
    browser.press("Enter")
    wait_for(browser, 1)
    assert said(workdir) == [(0, ("Red-Apple",))]

  def test_earlier_answer_is_corrected(self, open_page, browser):
    workdir = open_page()
    browser.press("1")
    wait_for(browser, 1)
    for key, before, digit in (
      ("Backspace", "Pear", "3"),
      ("ArrowLeft", "Apple", "2"),
    ):
      browser.press(key)
      wait_for(browser, 0)
      assert shown(browser, "given") == f"Saved: {before}"
      browser.press(digit)
      wait_for(browser, 1)
    assert said(workdir) == [(0, ("Pear",)), (0, ("Apple",)), (0, ("Zebra",))]

  def test_key_that_is_held_answers_once(self, open_page, browser):
    workdir = open_page()
    browser.press("1")
    wait_for(browser, 1)
    event = "{key: '1', repeat: true, bubbles: true}"
    browser.evaluate(
      f"document.dispatchEvent(new KeyboardEvent('keydown', {event}))"
    )
    browser.press("ArrowRight")
    wait_for(browser, 2)
    assert said(workdir) == [(0, ("Pear",))]

  def test_thousand_classes_are_found_by_typing(self, open_page, browser):
    names = tuple(f"class {i:04d}" for i in range(1000))
    workdir = open_page(class_names=names)
    assert len(options(browser)) == 9
    assert shown(browser, "hint") == "993 more: type to find them."
    browser.type("0777")  # 0 is no key, and so begins a name
    browser.press("Enter")
    wait_for(browser, 1)
    assert said(workdir) == [(0, ("class 0777",))]
    assert [row[1] for row in options(browser)[:4]] == [
      "Pear",
      "Zebra",
      "class 0777",  # which was given most
      "class 0000",
    ]

  def test_first_class_of_all_is_named(self, open_page, browser):
    items = tuple(
      item._replace(predictions=(), score=None)
      for item in asked.make_query(open_page() / "images").items
    )
    workdir = open_page(class_names=(), items=items)
    assert shown(browser, "hint").startswith("No class is known yet")
    browser.type("Plum")
    browser.press("Enter")
    browser.press("Enter")
    wait_for(browser, 1)
    assert said(workdir) == [(0, ("Plum",))]


class TestSeveralLabels:
  def test_keys_choose_and_enter_saves(self, open_page, browser):
    workdir = open_page(is_multi_label=True)
    browser.press("1")
    browser.press("2")
    browser.type("red")
    browser.press("Enter")
    browser.press("2")
    assert shown(browser, "given") == "Not saved yet: Pear, Red-Apple"
    assert said(workdir) == []
    browser.press("Enter")
    wait_for(browser, 1)
    assert said(workdir) == [(0, ("Pear", "Red-Apple"))]

  def test_none_is_said_and_never_meant(self, open_page, browser):
    workdir = open_page(is_multi_label=True)
    browser.press("Enter")
    assert shown(browser, "problem").startswith("Nothing is chosen: 0 saves")
    browser.press("0")
    wait_for(browser, 1)
    assert said(workdir) == [(0, ())]

  def test_choice_is_kept_while_another_image_is_seen(self, open_page, browser):
    open_page(is_multi_label=True)
    browser.press("2")
    browser.press("ArrowRight")
    wait_for(browser, 1)
    assert shown(browser, "given") == ""
    browser.press("ArrowLeft")
    wait_for(browser, 0)
    assert shown(browser, "given") == "Not saved yet: Zebra"


class TestEnd:
  def finish(self, browser):
    for index in range(asked.NUM_IMAGES - 1):
      browser.press("1")
      wait_for(browser, index + 1)
    browser.press(" ")
    wait_for_phase(browser, "end")

  def test_says_how_to_go_on(self, open_page, browser):
    workdir = open_page()
    self.finish(browser)
    text = browser.text()
    assert "All 6 images have an answer." in text
    assert "5 images labeled, 1 skipped." in text
    assert f"run --config=… --workdir={workdir}" in text
    assert browser.evaluate("document.activeElement.id") == "verdict"

  def test_counts_what_is_left(self, open_page, browser):
    open_page()
    for index in range(1, 6):
      browser.press("ArrowRight")
      wait_for(browser, index)
    browser.press("ArrowRight")
    wait_for_phase(browser, "end")
    assert "6 of 6 images have no answer yet." in browser.text()
    browser.press("Enter")
    wait_for(browser, 0)

  def test_notices_the_next_round(self, open_page, browser):
    workdir = open_page()
    self.finish(browser)
    query.write(workdir, query.read(workdir, 3)._replace(round=4))
    browser.wait("document.body.innerText.includes('has a new query')")
    browser.press("Enter")
    wait_for(browser, 0)
    assert shown(browser, "round") == "Round 4"
    assert shown(browser, "count") == "Image 1 of 6 · 0 answered"
