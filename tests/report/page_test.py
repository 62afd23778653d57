"""Tests of decern_jax/report/page.py."""

import base64
from html import parser
import re

import pytest

from decern_jax.report import page, summary
from decern_jax.report.gallery import Picture
from tests.report import made_up
from tests.table import each

VOID = {"meta", "img", "br"}
PICTURE = Picture("A <b>", 'Shows "x" & y.', "image/png", b"\x89PNG not really")


class Elements(parser.HTMLParser):
  """Collects the elements of a page, and refuses one that is not nested."""

  def __init__(self, text: str):
    super().__init__()
    self.found, self.text, self._open = [], "", []
    self.feed(text)
    self.close()
    assert not self._open

  def handle_starttag(self, tag, attrs):
    self.found.append((tag, dict(attrs)))
    if tag not in VOID:
      self._open.append(tag)

  def handle_endtag(self, tag):
    assert self._open.pop() == tag

  def handle_data(self, data):
    self.text += data

  def all(self, tag: str) -> list[dict]:
    return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def render(tmp_path):
  def render(curves=made_up.CURVES, *, notes=(), pictures=(), **options) -> str:
    numbers = summary.summarize(made_up.collect(tmp_path, curves, **options))
    return page.render(numbers, notes, pictures)

  return render


class TestRender:
  def test_is_a_well_formed_page_in_english(self, render):
    text = render(notes=["One."], pictures=[PICTURE])
    assert text.startswith("<!DOCTYPE html>\n")
    found = Elements(text)
    assert found.all("html") == [{"lang": "en"}]
    assert {"charset": "utf-8"} in found.all("meta")
    assert len(found.all("h1")) == len(found.all("title")) == 1

  def test_needs_no_other_file(self, render):
    found = Elements(render(notes=["One."], pictures=[PICTURE]))
    assert not {"script", "link", "iframe", "object"} & {
      tag for tag, _ in found.found
    }
    references = [
      value
      for _, attributes in found.found
      for name, value in attributes.items()
      if name in ("src", "href", "srcset", "data", "poster")
    ]
    assert len(references) == 1
    assert references[0].startswith("data:image/png;base64,")

  def test_holds_the_pictures_with_texts_for_those_who_see_none(self, render):
    (image,) = Elements(render(pictures=[PICTURE])).all("img")
    content = image["src"].removeprefix("data:image/png;base64,")
    assert base64.b64decode(content) == PICTURE.content
    assert image["alt"] == 'A <b>: Shows "x" & y.'

  def test_fits_a_phone(self, render):
    found = Elements(render())
    (viewport,) = [m for m in found.all("meta") if m.get("name") == "viewport"]
    assert viewport["content"] == "width=device-width, initial-scale=1"

  def test_is_dark_on_light(self, render):
    (style,) = re.findall(r"<style>(.*?)</style>", render(), flags=re.DOTALL)
    assert "color-scheme: light" in style
    assert "background: #fff" in style
    assert not re.search(r"url\(|@import", style)

  def test_names_what_was_compared(self, render):
    text = Elements(render()).text
    assert "image_folder; 3 classes; 12 train; 6 test" in text
    assert "small_cnn" in text
    assert "frozen features (train.scope=head)" in text
    assert "decern, margin, random" in text
    assert "10, 20" in text
    assert "1, 11, 111" in text

  def test_names_fine_tuning(self, render):
    assert "fine-tuned (train.scope=all)" in render(train__scope="all")

  def test_has_notes_and_settings(self, render):
    text = Elements(render(notes=["One & all."], train__num_epochs=7)).text
    assert "One & all." in text
    assert "train.num_epochs = 7" in text

  def test_escapes_names(self, render):
    name = '<script>alert("x")</script>'
    found = Elements(
      render(
        notes=[name],
        pictures=[PICTURE],
        dataset__name=name,
        dataset__path=name,
        model__name=name,
        model__weights=name,
      )
    )
    assert not found.all("script")
    assert found.text.count(name) >= 6

  def test_a_table_needs_no_pair(self, render):
    text = Elements(render({"random": {1: (0.3, 0.5)}})).text
    assert "Active learning on image_folder: random" in text
    assert "Differences of all pairs" not in text

  def test_is_the_same_for_the_same_runs(self, tmp_path):
    numbers = summary.summarize(made_up.collect(tmp_path, made_up.CURVES))
    assert page.render(numbers, [], []) == page.render(numbers, [], [])


class TestVerdict:
  def verdict(self, text: str) -> str:
    return Elements(re.findall(r"<p>.*?</p>", text, flags=re.DOTALL)[0]).text

  def test_compares_the_best_with_random(self, render):
    assert re.fullmatch(
      r"decern has the largest area under the learning curve: 53\.3 ± 10\.4 %,"
      r" 13\.3 points above random \(95 % interval 6\.\d to 20\.\d, Holm"
      r" p = 0\.0\d\d\)\.",
      self.verdict(render()),
    )

  def test_does_not_claim_a_test_of_one_seed(self, render):
    curves = {"random": {1: (0.3, 0.5)}, "margin": {1: (0.3, 0.6)}}
    assert self.verdict(render(curves)).endswith(
      "5.0 points above random; too few seeds for a test."
    )

  @each(
    "curves",
    [
      {"random": {1: (0.3, 0.5)}, "margin": {1: (0.3, 0.4)}},
      {"margin": {1: (0.3, 0.5)}},
      {"random": {1: (0.3, 0.5)}, "margin": {2: (0.3, 0.6)}},
    ],
  )
  def test_compares_with_nothing_where_it_cannot(self, render, curves):
    assert re.fullmatch(
      r"\w+ has the largest area under the learning curve: \d+\.\d %\.",
      self.verdict(render(curves)),
    )
