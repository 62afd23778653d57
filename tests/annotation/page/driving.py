"""What the tests of the page read from it, and wait for."""

from decern_jax.annotation import answers
from tests.annotation.page import asked

PHASE = "document.body.dataset.phase"
INDEX = "document.querySelector('#figure').dataset.index"


def wait_for(browser, index, phase="ready"):
  """Waits until an image is there, and can be answered."""
  browser.wait(f"{PHASE} === '{phase}' && {INDEX} === '{index}'")


def wait_for_phase(browser, phase):
  browser.wait(f"{PHASE} === '{phase}'")


def options(browser):
  """What can be chosen, as it is shown."""
  rows = "[...document.querySelectorAll('#choices li')]"
  return browser.evaluate(f"{rows}.map(row => row.innerText.split('\\n'))")


def shown(browser, name):
  return browser.evaluate(f"document.querySelector('#{name}').innerText")


def said(workdir):
  """The labels in the log, in its order."""
  found = answers.read_log(workdir / "answers" / "page.jsonl")
  assert not found.problems
  return [(asked.IDS.index(a.id), a.labels) for a in found.answers]
