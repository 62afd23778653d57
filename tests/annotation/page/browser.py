"""A headless Chromium that tests drive by the keyboard.

It is spoken to over two pipes (DevTools protocol, `--remote-debugging-pipe`):
no port, no websocket, no package.
"""

import base64
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

NAMES = ("chromium", "chromium-browser", "google-chrome")

# Key: code of the key and Windows' number of it, and the text that it types.
_KEYS = {
  "Enter": (13, "\r"),
  "Backspace": (8, ""),
  "Escape": (27, ""),
  "Tab": (9, "\t"),
  "ArrowLeft": (37, ""),
  "ArrowUp": (38, ""),
  "ArrowRight": (39, ""),
  "ArrowDown": (40, ""),
  " ": (32, " "),
}

# The browser reads commands from its file 3 and answers on 4, which Python can
# give to a child only by this detour.
_SHIM = (
  "import fcntl, os, sys;"
  "r, w = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3]);"
  "os.dup2(r, 3); os.dup2(w, 4); os.close(r); os.close(w);"
  "os.execvp(sys.argv[3], sys.argv[3:])"
)


def find() -> str | None:
  """Returns the path of a Chromium, or None."""
  return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
  """One page in a browser of its own, to be closed; a context manager."""

  def __init__(
    self, *, width: int = 1280, height: int = 800, seconds: int = 60
  ):
    """Starts the browser.

    Args:
      width: Of the page, in pixels.
      height: Of the page, in pixels.
      seconds: How long any reply may take.
    """
    self._seconds = seconds
    self._buffer = b""
    self._num_calls = 0
    self._session = None
    self._profile = tempfile.mkdtemp(prefix="chromium")
    self._process = self._start(f"--window-size={width},{height}")
    pages = self._call("Target.getTargets")["targetInfos"]
    target = next(p["targetId"] for p in pages if p["type"] == "page")
    self._session = self._call(
      "Target.attachToTarget", targetId=target, flatten=True
    )["sessionId"]
    self._call("Page.enable")
    self._call(
      "Emulation.setDeviceMetricsOverride",
      width=width,
      height=height,
      deviceScaleFactor=1,
      mobile=False,
    )

  def __enter__(self) -> "Browser":
    return self

  def __exit__(self, *error: object) -> None:
    self.close()

  def open(self, url: str) -> None:
    """Opens an address, and waits until its document is there."""
    self._call("Page.navigate", url=url)
    self.wait("document.readyState === 'complete'")

  def reload(self) -> None:
    """Loads the page anew."""
    # Otherwise the old document would be taken for the new one.
    self.evaluate("window.isOld = true; 0")
    self._call("Page.reload")
    self.wait("!window.isOld && document.readyState === 'complete'")

  def press(self, key: str) -> None:
    """Presses a key: one character, or a name such as "Enter"."""
    number, text = _KEYS.get(key, (ord(key.upper()[0]), key))
    event = {"key": key, "windowsVirtualKeyCode": number}
    typed = {"text": text} if text else {}
    kind = "keyDown" if text else "rawKeyDown"
    self._call("Input.dispatchKeyEvent", type=kind, **event, **typed)
    self._call("Input.dispatchKeyEvent", type="keyUp", **event)

  def type(self, text: str) -> None:
    """Presses the key of every character."""
    for character in text:
      self.press(character)

  def text(self) -> str:
    """Returns the text that the page shows."""
    return self.evaluate("document.body.innerText")

  def evaluate(self, script: str):
    """Returns what a JavaScript expression, or its promise, gives.

    Raises:
      RuntimeError: If it throws.
    """
    done = self._call(
      "Runtime.evaluate",
      expression=script,
      returnByValue=True,
      awaitPromise=True,
    )
    if "exceptionDetails" in done:
      raise RuntimeError(f"{script}: {done['exceptionDetails']}")
    return done["result"].get("value")

  def wait(self, script: str, *, seconds: float = 30) -> None:
    """Waits until a JavaScript expression is true.

    Raises:
      TimeoutError: If it does not become so; shows the page.
    """
    end = time.monotonic() + seconds
    while not self.evaluate(script):
      if time.monotonic() > end:
        raise TimeoutError(f"{script} in {self.text()}")
      time.sleep(0.01)

  def emulate(self, *, dark: bool) -> None:
    """Makes the page light or dark."""
    value = "dark" if dark else "light"
    feature = {"name": "prefers-color-scheme", "value": value}
    self._call("Emulation.setEmulatedMedia", features=[feature])

  def screenshot(self, path: os.PathLike | str) -> None:
    """Writes what is seen into a PNG file."""
    data = self._call("Page.captureScreenshot", format="png")["data"]
    pathlib.Path(path).write_bytes(base64.b64decode(data))

  def close(self) -> None:
    """Ends the browser and removes its profile."""
    for file in self._pipes:
      os.close(file)
    try:
      self._process.wait(timeout=5)  # without its pipes it ends by itself
    except subprocess.TimeoutExpired:
      os.killpg(self._process.pid, signal.SIGKILL)
      self._process.wait()
    shutil.rmtree(self._profile, ignore_errors=True)

  def _start(self, *options: str) -> subprocess.Popen:
    commands, to_browser = os.pipe()
    from_browser, replies = os.pipe()
    self._pipes = (to_browser, from_browser)
    process = subprocess.Popen(
      [
        *(sys.executable, "-c", _SHIM, str(commands), str(replies), find()),
        "--headless=new",
        "--remote-debugging-pipe",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-extensions",
        "--hide-scrollbars",
        f"--user-data-dir={self._profile}",
        *options,
        "about:blank",
      ],
      pass_fds=(commands, replies),
      start_new_session=True,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    os.close(commands)
    os.close(replies)
    return process

  def _call(self, method: str, **params):
    """Returns the result of a method of the protocol."""
    self._num_calls += 1
    number = self._num_calls
    self._send(number, method, params)
    while (reply := self._receive()).get("id") != number:
      if reply.get("method") == "Page.javascriptDialogOpening":
        accept = {"accept": True}
        self._send(0, "Page.handleJavaScriptDialog", accept)
    if "error" in reply:
      raise RuntimeError(f"{method}: {reply['error']}")
    return reply["result"]

  def _send(self, number: int, method: str, params: dict) -> None:
    message = {"id": number, "method": method, "params": params}
    if self._session:
      message["sessionId"] = self._session
    os.write(self._pipes[0], json.dumps(message).encode() + b"\0")

  def _receive(self) -> dict:
    """Returns the next message of the browser."""
    while b"\0" not in self._buffer:
      ready, _, _ = select.select([self._pipes[1]], [], [], self._seconds)
      data = os.read(self._pipes[1], 2**16) if ready else b""
      if not data:
        raise TimeoutError("The browser does not answer.")
      self._buffer += data
    message, _, self._buffer = self._buffer.partition(b"\0")
    return json.loads(message)
