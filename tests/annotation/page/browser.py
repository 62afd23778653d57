"""A headless Chromium that tests drive by the keyboard, through Selenium."""

import os
import pathlib
import shutil
import time
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")

_FLAGS = (
  "--headless=new",
  "--no-sandbox",  # Chromium starts as root only without it
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-extensions",
  "--disable-sync",
  "--hide-scrollbars",
  "--no-first-run",
)


def start(folder: pathlib.Path, *, width: int = 1280, height: int = 800):
  """Starts a browser; skips the test where there is none.

  Args:
    folder: Where the profile is written.
    width: Width of the window, in pixels.
    height: Height of the window, in pixels.

  Returns:
    A `Browser`, which must be closed.
  """
  pytest.importorskip("selenium")
  from selenium import webdriver

  binary = next(filter(None, map(shutil.which, NAMES)), None)
  # Named, as Selenium would else ask the network for one.
  driver = shutil.which("chromedriver")
  if binary is None or driver is None:
    pytest.skip("no Chromium with its chromedriver")
  options = webdriver.ChromeOptions()
  options.binary_location = binary
  options.unhandled_prompt_behavior = "accept"
  size = f"--window-size={width},{height}"
  for flag in (*_FLAGS, size, f"--user-data-dir={folder}"):
    options.add_argument(flag)
  service = webdriver.ChromeService(driver)
  return Browser(webdriver.Chrome(options, service))


class Browser:
  """One page of a browser; a context manager that closes it.

  Attributes:
    driver: Selenium's driver.
  """

  def __init__(self, driver):
    from selenium.webdriver.common.keys import Keys

    self.driver = driver
    self._keys = {
      "Enter": Keys.ENTER,
      "Backspace": Keys.BACKSPACE,
      "Escape": Keys.ESCAPE,
      "ArrowLeft": Keys.ARROW_LEFT,
      "ArrowUp": Keys.ARROW_UP,
      "ArrowRight": Keys.ARROW_RIGHT,
      "ArrowDown": Keys.ARROW_DOWN,
    }

  def __enter__(self) -> "Browser":
    return self

  def __exit__(self, *error: object) -> None:
    self.driver.quit()

  def open(self, url: str) -> None:
    """Opens an address, and waits until its document is there."""
    self.driver.get(url)

  def press(self, key: str) -> None:
    """Presses a key: one character, or a name such as "Enter"."""
    self.type(self._keys.get(key, key))

  def type(self, text: str) -> None:
    """Presses the key of each character."""
    from selenium.webdriver import ActionChains

    ActionChains(self.driver).send_keys(text).perform()

  def text(self) -> str:
    """Returns the text that the page shows."""
    return self.evaluate("document.body.innerText")

  def evaluate(self, script: str) -> Any:
    """Returns the value of a JavaScript expression, or of its promise."""
    return self.driver.execute_script(f"return {script}")

  def wait(self, script: str, *, seconds: float = 30) -> None:
    """Waits until a JavaScript expression is true.

    Raises:
      TimeoutError: If it does not become true; shows the page.
    """
    end = time.monotonic() + seconds
    while not self.evaluate(script):
      if time.monotonic() > end:
        raise TimeoutError(f"{script} in {self.text()}")
      time.sleep(0.01)

  def screenshot(self, path: os.PathLike | str) -> None:
    """Writes a PNG file of the visible part of the page."""
    self.driver.save_screenshot(os.fspath(path))
