"""Tests of what decern_jax/annotation/page/server.py refuses to serve."""

import os
import socket

from decern_jax.annotation import query
from tests.annotation.page import asked
from tests.table import each

BASE = f"/{asked.TOKEN}/"


class TestPaths:
  @each(
    "name",
    [
      "../../etc/passwd",
      "..%2f..%2fetc%2fpasswd",
      "%2e%2e/%2e%2e/etc/passwd",
      "..%5c..%5cetc%5cpasswd",
      "/etc/passwd",
      "//etc/passwd",
      "image//etc/passwd",
      "image/{version}//etc/passwd",
      "image/{version}/../../etc/passwd",
      "image/{version}/0/../1",
      "image/{version}/%2fetc%2fpasswd",
      "image/{version}/-1",
      "image/{version}/0x1",
      "image/{version}/1%00",
      "image/{version}/1?path=/etc/passwd",
      "image/{version}/",
      "server.py",
      "__init__.py",
      "page.html",
      "link.png",
      "./page.js",
      "page.js?",
      "answer",
    ],
  )
  def test_nothing_else_is_there(self, ask, server, workdir, name):
    link = workdir / "link.png"
    if not link.is_symlink():
      link.symlink_to("/etc/passwd")
    version = server.current_query.view()["version"]
    status, content, _ = ask(BASE + name.replace("{version}", version))
    assert (status, content) == (404, b"There is nothing here.")

  def test_file_that_is_no_image_never_leaves(self, ask, server, workdir):
    old = query.read(workdir, 3)
    (workdir / "a.png").symlink_to("/etc/passwd")
    paths = ("/etc/passwd", os.fspath(workdir / "a.png"))
    items = tuple(query.Item(path, path) for path in paths)
    query.write(workdir, old._replace(items=items))
    version = server.current_query.view()["version"]
    for index in (0, 1):
      status, content, _ = ask(f"{BASE}image/{version}/{index}")
      assert status == 422
      assert b"root:" not in content


class TestRefusals:
  @each(
    "path",
    [
      "/",
      "/query",
      "/page.js",
      "//",
      f"/{asked.TOKEN[:-1]}/",
      f"/{asked.TOKEN}x/",
      f"/{asked.TOKEN.upper()}/",
      f"/x/{asked.TOKEN}/",
      f"x/{asked.TOKEN}/",
      f"http://127.0.0.1/{asked.TOKEN}/",
      "*",
    ],
  )
  def test_secret_is_needed(self, ask, path):
    status, content, _ = ask(path)
    assert status == 403
    assert asked.TOKEN.encode() not in content

  @each("path", [b"/\xe9/", b"/\xff\xfe/", b"/\xd9\xa3"])
  def test_secret_is_needed_beyond_ascii(self, server, path):
    host = b"127.0.0.1:%d" % server.address.port
    with socket.create_connection(server.server_address) as connection:
      connection.sendall(b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (path, host))
      assert connection.recv(100).startswith(b"HTTP/1.0 403 ")

  def test_name_of_another_host_is_refused(self, ask, server):
    port = server.address.port
    hosts = ["evil.example", f"evil.example:{port}", "127.0.0.1", "", None]
    hosts += [f"127.0.0.1:{port}.evil.example", f"127.0.0.1:{port + 1}"]
    for host in hosts:
      assert ask(BASE, host=host)[0] == 403, host

  def test_localhost_is_this_host(self, ask, server):
    assert ask(BASE, host=f"localhost:{server.address.port}")[0] == 200

  @each(
    "origin",
    [
      "http://evil.example",
      "null",
      "http://127.0.0.1",
      "https://127.0.0.1",
      None,
    ],
  )
  def test_answer_of_another_site_is_refused(self, post, server, origin):
    assert post(Origin=origin)[0] == 403
    assert not server.current_query.log.exists()

  @each("method", ["PUT", "DELETE", "OPTIONS", "HEAD"])
  def test_other_methods_are_refused(self, ask, method):
    assert ask(BASE, method=method)[0] == 501
