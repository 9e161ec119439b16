"""The page of a search: every candidate, every class, whatever they are called."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser

from edgec.tuning.candidate import Candidate, Tuned
from edgec.tuning.page import render_tuned

from .conftest import found


class Page(HTMLParser):
    """Ids and links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.ids |= {str(told["id"])} if "id" in told else set()
        self.links |= {str(told["href"])} if tag == "a" else set()


def test_every_mark_leads_to_its_classes(search_of: Callable[..., Tuned]) -> None:
    tuned = search_of([(0.9, 0.95), (0.5, 0.8), "out of reach"]).model_copy(update={"chosen": 0})
    page = Page(render_tuned(tuned))
    assert {link.removeprefix("#") for link in page.links} <= page.ids
    assert {"candidate-0", "candidate-1"} <= page.ids
    assert "candidate-2" not in page.ids


def test_the_choice_the_gate_and_what_failed_are_told(search_of: Callable[..., Tuned]) -> None:
    tuned = search_of([(0.9, 0.95), "out of reach"], agreement=0.9).model_copy(update={"chosen": 0})
    text = render_tuned(tuned)
    assert "Candidate 0 is the fastest" in text
    assert "90.0 %" in text
    assert "out of reach" in text


def test_where_none_is_good_enough_the_page_says_so(search_of: Callable[..., Tuned]) -> None:
    assert "In no candidate does every class agree" in render_tuned(search_of([(0.9, 0.7)], agreement=0.9))
    assert "Could not be built" in render_tuned(search_of(["a", "b"], agreement=0.5))
    assert "own build, by which the others are judged" in render_tuned(search_of(["a", (0.5, 0.5)]))


def test_the_nearest_of_the_page_is_the_one_whose_worst_class_agrees_most(search_of: Callable[..., Tuned]) -> None:
    text = render_tuned(search_of([(0.5, 0.7), (0.9, 0.6)], agreement=0.9))
    nearest = text.partition("<dt>Nearest</dt>")[2]
    assert nearest.startswith('<dd><span class="big">no. 0</span>')


def test_names_of_others_are_text(search_of: Callable[..., Tuned]) -> None:
    tuned = search_of([(0.9, 0.7)])
    hostile = found(0.5, 0.5, {"<script>alert(1)</script>": 0.5, "a\x1b[31m": 0.9})
    more = Candidate(number=1, settings={"compress.method": "<b>mir</b>"}, found=hostile)
    text = render_tuned(tuned.model_copy(update={"candidates": (*tuned.candidates, more)}))
    assert "<script>alert" not in text
    assert "<b>mir" not in text
    assert "\x1b" not in text
