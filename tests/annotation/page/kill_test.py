"""Test of a whole session in a real browser, whose server is killed."""

import os
import signal

import pytest

from decern_jax.annotation import answers, state
from tests.annotation.page import asked
from tests.annotation.page.driving import PHASE, said, wait_for


@pytest.fixture
def start(workdir):
  """Starts the command; what still runs is killed at the end."""
  processes = []

  def start(*flags):
    process, url = asked.start_label(workdir, *flags)
    processes.append(process)
    return process, url

  yield start
  for process in processes:
    process.kill()
    process.wait()
    process.stdout.close()


def kill(process):
  process.send_signal(signal.SIGKILL)
  process.wait()


@pytest.mark.slow
class TestKill:
  def test_nothing_is_lost_and_the_open_page_goes_on(
    self, workdir, start, browser
  ):
    process, url = start()
    browser.open(url)
    wait_for(browser, 0)
    browser.press("1")
    wait_for(browser, 1)
    browser.driver.refresh()
    wait_for(browser, 1)
    browser.type("zeb")
    browser.press("Enter")
    wait_for(browser, 2)

    kill(process)
    browser.press("3")
    browser.wait(f"{PHASE} === 'retrying'")
    assert "server does not answer" in browser.text()
    assert "“Apple” is kept here" in browser.text()
    assert said(workdir) == [(0, ("Pear",)), (1, ("Zebra",))]

    process, again = start()
    assert again == url
    wait_for(browser, 3)
    assert said(workdir)[2:] == [(2, ("Apple",))]

    kill(process)
    log = workdir / "answers" / "page.jsonl"
    with open(log, "ab") as file:
      file.write(b'{"id": "plain.png", "la')  # as a kill while writing leaves
    process, url = start("--port=0")
    browser.open(url)
    wait_for(browser, 3)
    for index, key in ((3, " "), (4, "2")):
      browser.press(key)
      wait_for(browser, index + 1)
    browser.press("ArrowLeft")
    wait_for(browser, 4)
    browser.type("Plum")
    browser.press("Enter")
    browser.press("Enter")
    wait_for(browser, 5)
    browser.press("1")
    browser.wait(f"{PHASE} === 'end'")
    assert "All 6 images have an answer." in browser.text()
    assert "New classes: Plum." in browser.text()

    process.terminate()
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert output.endswith(f"Ended: 6 of 6 images have an answer, in {log}.\n")
    found = answers.read_log(log)
    assert len(found.problems) == 1
    assert {a.annotator for a in found.answers} == {"Ada"}
    resolved = state.resolve(found.answers)
    assert resolved.labels == {
      asked.IDS[0]: ("Pear",),
      asked.IDS[1]: ("Zebra",),
      asked.IDS[2]: ("Apple",),
      asked.IDS[4]: ("Plum",),
      asked.IDS[5]: ("Pear",),
    }
    assert resolved.skipped == {asked.IDS[3]}
    assert not os.path.exists(f"/proc/{process.pid}")
