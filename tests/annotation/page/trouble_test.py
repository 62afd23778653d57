"""Tests of what the page does when something goes wrong."""

import errno
import threading

from decern_jax.annotation import query
from decern_jax.io import storage
from tests.annotation.page import asked
from tests.annotation.page.driving import (
  INDEX,
  options,
  said,
  shown,
  wait_for,
  wait_for_phase,
)


class TestTrouble:
  def test_image_that_is_gone_can_only_be_skipped(
    self, open_page, browser, tmp_path
  ):
    broken = asked.make_query(tmp_path / "images").items
    broken = (broken[0], broken[1]._replace(path="/gone.png"), *broken[2:])
    workdir = open_page(items=broken)
    browser.press("1")
    wait_for(browser, 1, "broken")
    assert "'/gone.png' cannot be read: No such file" in browser.text()
    browser.press("1")
    browser.press(" ")
    wait_for(browser, 2)
    assert said(workdir) == [(0, ("Pear",)), (1, None)]

  def test_image_that_is_back_is_shown(self, open_page, browser, tmp_path):
    items = asked.make_query(tmp_path / "images").items
    late = tmp_path / "late.png"
    items = (items[0], items[1]._replace(path=str(late)), *items[2:])
    open_page(items=items)
    browser.press("ArrowRight")
    wait_for(browser, 1, "broken")
    late.write_bytes((tmp_path / "images" / "0.png").read_bytes())
    browser.press("ArrowLeft")
    wait_for(browser, 0)
    browser.press("ArrowRight")
    wait_for(browser, 1)

  def test_lost_server_is_told_and_found_again(self, browser, tmp_path):
    workdir = asked.write_run(tmp_path)
    with asked.serve(workdir) as server:
      browser.open(server.address.url)
      wait_for(browser, 0)
    for index in range(1, 6):  # to an image that was not fetched ahead
      browser.press("ArrowRight")
      browser.wait(f"{INDEX} === '{index}'")
    browser.wait("document.querySelector('#problem').innerText")
    assert "server does not answer" in shown(browser, "problem")
    with asked.serve(workdir, port=server.address.port):
      wait_for(browser, 5)
      assert shown(browser, "problem") == ""
      browser.open("about:blank")

  def test_server_of_another_secret_is_told(self, browser, tmp_path):
    workdir = asked.write_run(tmp_path)
    with asked.serve(workdir) as server:
      browser.open(server.address.url)
      wait_for(browser, 0)
    with asked.serve(workdir, port=server.address.port, token="b" * 32):
      browser.press("1")
      # A request may come between the two servers: the page tries again.
      message = "Not saved: This is not the address of the page: open the one"
      problem = "document.querySelector('#problem').innerText"
      browser.wait(f"{problem}.startsWith('{message}')")
      browser.open("about:blank")
    assert said(workdir) == []

  def test_full_disk_is_told_and_the_answer_kept(
    self, open_page, browser, monkeypatch
  ):
    def fail(path, content):
      raise OSError(errno.ENOSPC, "No space left on device")

    workdir = open_page()
    with monkeypatch.context() as patch:
      patch.setattr(storage, "append", fail)
      browser.press("1")
      wait_for_phase(browser, "retrying")
      assert "Not saved: [Errno 28] No space" in shown(browser, "problem")
      browser.press("ArrowRight")  # which would leave the answer behind
      assert shown(browser, "count") == "Image 1 of 6 · 0 answered"
      assert said(workdir) == []
    wait_for(browser, 1)
    assert said(workdir) == [(0, ("Pear",))]
    assert shown(browser, "problem") == ""

  def test_answer_that_is_not_saved_can_be_taken_back(
    self, open_page, browser, monkeypatch
  ):
    def fail(path, content):
      raise OSError(errno.ENOSPC, "No space left on device")

    workdir = open_page()
    with monkeypatch.context() as patch:
      patch.setattr(storage, "append", fail)
      browser.press("1")
      wait_for_phase(browser, "retrying")
      browser.press("Escape")
      wait_for(browser, 0)
    browser.press("2")
    wait_for(browser, 1)
    assert said(workdir) == [(0, ("Zebra",))]

  def test_answer_can_be_taken_back_while_the_server_is_slow(
    self, open_page, browser, monkeypatch
  ):
    workdir = open_page()
    goes_on = threading.Event()
    append = storage.append

    def wait(path, content):
      goes_on.wait(30)
      append(path, content)

    with monkeypatch.context() as patch:
      patch.setattr(storage, "append", wait)
      browser.press("1")
      wait_for_phase(browser, "saving")
      browser.press("Escape")
      wait_for(browser, 0)
      assert shown(browser, "problem").startswith("Cancelled: Pear. It may")
      goes_on.set()
    browser.press("2")
    wait_for(browser, 1)
    assert said(workdir)[-1] == (0, ("Zebra",))

  def test_answer_to_an_older_query_is_refused(self, open_page, browser):
    workdir = open_page()
    query.write(workdir, query.read(workdir, 3)._replace(round=4))
    browser.press("1")
    browser.wait("document.querySelector('#problem').innerText")
    assert "Not saved: the run has a newer query" in shown(browser, "problem")
    browser.press("Enter")
    browser.wait("document.querySelector('#round').innerText === 'Round 4'")
    wait_for(browser, 0)
    browser.press("1")
    wait_for(browser, 1)
    assert said(workdir) == [(0, ("Pear",))]

  def test_names_are_text_and_never_markup(self, open_page, browser, tmp_path):
    evil = "<img src=x onerror='document.title=\"owned\"'>"
    items = tuple(
      item._replace(id=evil, predictions=((evil, 0.5),))
      for item in asked.make_query(tmp_path / "images").items[:1]
    )
    open_page(class_names=(evil,), items=items, strategy=evil)
    assert options(browser) == [["1", evil, "50 %"]]
    assert shown(browser, "name") == evil
    assert browser.evaluate("document.images.length") == 1
