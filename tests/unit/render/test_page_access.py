"""The page for everybody: outline, names for what is drawn, contrast, keyboard; and for more classes than fit a screen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edgec.evaluate.broken import Answer, BrokenImage, BrokenImages
from edgec.evaluate.gate_settings import Gates
from edgec.evaluate.gates import check_gates
from edgec.evaluate.report import Report
from edgec.render import page as page_module
from edgec.render.page import render_report
from report_page import invented
from support import chromium

CSS = (Path(page_module.__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)


def broken(report: Report, *, picture: str | None = PIXEL) -> BrokenImages:
    names = report.labels
    image = BrokenImage(
        image="0" * 16,
        truth=names[0],
        teacher=Answer(label=names[0], score=0.9),
        artifact=Answer(label=names[1], score=0.4),
        picture=picture,
    )
    return BrokenImages(total=7, images=(image,))


def drawn(report: Report) -> str:
    gates = Gates(min_accuracy=0.5, min_worst_class_accuracy=0.99, max_class_drop=0.3)
    return render_report(report, gates=check_gates(report, gates), broken=broken(report))


@pytest.fixture(scope="module")
def crowd() -> Report:
    return invented(1000)


@pytest.fixture(scope="module", params=["ten_classes_by_layer", "hundred_classes", "crowd"])
def page(request: pytest.FixtureRequest) -> str:
    return drawn(request.getfixturevalue(request.param))


class Tags(HTMLParser):
    """Every tag with its attributes and those of the tags around it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.around: list[tuple[str, dict[str, str]]] = []
        self.found: list[tuple[str, dict[str, str], list[tuple[str, dict[str, str]]]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.found.append((tag, given, list(self.around)))
        if tag not in {"meta", "link", "br", "img", "input"}:
            self.around.append((tag, given))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}, list(self.around)))

    def handle_endtag(self, tag: str) -> None:
        del tag
        self.around.pop()

    def all(self, *names: str) -> Iterator[tuple[str, dict[str, str], list[tuple[str, dict[str, str]]]]]:
        return (each for each in self.found if each[0] in names)


def test_headings_go_down_one_step_at_a_time(page: str) -> None:
    levels = [int(tag[1]) for tag, _, _ in Tags(page).all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_page_has_its_language_its_landmarks_and_a_way_to_the_main_one(page: str) -> None:
    tags = Tags(page)
    assert [given["lang"] for _, given, _ in tags.all("html")] == ["en"]
    assert [tag for tag, _, _ in tags.all("header", "nav", "main", "footer")] == ["header", "nav", "main", "footer"]
    first = next(tags.all("a"))[1]
    assert first == {"class": "skip", "href": "#main"}


def test_every_table_has_a_caption(page: str) -> None:
    assert len(re.findall(r"<table[^>]*>\s*<caption", page)) == page.count("<table")


def test_what_is_drawn_has_a_name_or_is_hidden_from_readers(page: str) -> None:
    for _, given, around in Tags(page).all("svg"):
        chain = [given, *(attributes for tag, attributes in around if tag == "svg")]
        assert any(
            each.get("aria-hidden") == "true" or (each.get("role") == "img" and each.get("aria-label"))
            for each in chain
        )
    assert all(given["alt"] for _, given, _ in Tags(page).all("img"))


def test_what_scrolls_can_be_reached_by_keyboard_and_has_a_name(page: str) -> None:
    for _, given, _ in Tags(page).all("div"):
        if "scroll" in given.get("class", "").split():
            assert given["tabindex"] == "0"
            assert given["role"] == "region"
            assert given.get("aria-label") or given.get("aria-labelledby")


def test_verdicts_are_told_by_a_sign_as_well_as_by_colour(page: str) -> None:
    cells = re.findall(r'<td class="(?:nowrap )?(?:pass|fail|inconclusive)(?: nowrap)?">(.*?)</td>', page)
    assert cells
    assert all(cell[0] in "✓✗–" for cell in cells)


def luminance(color: str) -> float:
    """Of a colour such as #1b1e22, by WCAG 2.2."""
    digits = color.lstrip("#")
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def schemes() -> dict[str, dict[str, str]]:
    """Colours by name: light, dark, on paper."""
    blocks = re.findall(r":root \{(.*?)\}", CSS, flags=re.DOTALL)
    found = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6});", block)) for block in blocks]
    full = [
        {name: value if len(value) == 7 else "#" + "".join(2 * c for c in value[1:]) for name, value in each.items()}
        for each in found
    ]
    return dict(zip(("light", "dark", "print"), full, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_stands_out_from_what_it_stands_on(scheme: str) -> None:
    colors = schemes()[scheme]
    for name in ("ink", "muted", "good", "bad", "unsure", "artifact"):
        for ground in ("paper", "panel"):
            # WCAG 2.2, 1.4.3: 4.5 for text.
            assert contrast(colors[name], colors[ground]) >= 4.5, (name, ground)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_marks_stand_out_from_the_paper(scheme: str) -> None:
    colors = schemes()[scheme]
    for name in ("teacher", "baseline", "few", "compressed", "artifact"):
        # WCAG 2.2, 1.4.11: 3 for what is drawn.
        assert contrast(colors[name], colors["paper"]) >= 3, name


def test_a_thousand_classes_make_a_page_of_less_than_three_megabytes(crowd: Report) -> None:
    page = drawn(crowd)
    assert len(page.encode()) < 3e6
    assert all(f'<th scope="row">{label}</th>' in page for label in crowd.labels)
    assert "The 20 classes that lost most" in page
    assert 'class="matrix"' not in page


def test_a_thousand_failing_gates_are_folded_away(crowd: Report) -> None:
    gates = check_gates(crowd, Gates(min_class_accuracy=dict.fromkeys(crowd.labels, 0.999)))
    page = render_report(crowd, gates=gates)
    shown = page[page.index('id="gates"') : page.index('id="stages"')]
    assert shown.index("<details>") < 12_000
    assert f"Fails {sum(result.verdict.value == 'fail' for result in gates)} of 1000 checks" in page


def test_images_that_broke_are_told_without_pictures_where_these_are_left_out(ten_classes: Report) -> None:
    page = render_report(ten_classes, gates=None, broken=broken(ten_classes, picture=None))
    assert "<img" not in page
    assert "leaves them out" not in page
    assert "7 test images that the teacher gets right are wrong in the artifact." in page
    with_pictures = render_report(ten_classes, gates=None, broken=broken(ten_classes))
    assert 'alt="Test image of class airplane"' in with_pictures
    assert "leaves them out" in with_pictures


def test_images_that_broke_have_the_names_of_their_files(ten_classes: Report) -> None:
    (image,) = broken(ten_classes).images
    named = BrokenImages(total=1, images=(image.model_copy(update={"file": "airplane/0001 <b>.png"}),))
    assert "airplane/0001 &lt;b&gt;.png</p>" in render_report(ten_classes, gates=None, broken=named)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if chromium.CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with chromium.open_chromium(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


def show(browser: Any, page: str, folder: Path, *, width: int = 1280) -> None:
    (folder / "page.html").write_text(page, encoding="utf-8")
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
    browser.open(folder / "page.html")


def test_the_console_is_quiet_and_nothing_but_the_page_is_asked_for(browser: Any, page: str, tmp_path: Path) -> None:
    show(browser, page, tmp_path)
    assert browser.complaints == []
    assert browser.requests == [(tmp_path / "page.html").as_uri()]


@pytest.mark.parametrize("width", [380, 1280])
def test_nothing_is_wider_than_the_window(browser: Any, page: str, tmp_path: Path, width: int) -> None:
    show(browser, page, tmp_path, width=width)
    assert browser.value("document.documentElement.scrollWidth") <= width


LONG = "Pseudomonas_aeruginosa_multidrug_resistant_strain_PA14_colony_grade_3"


@pytest.fixture(scope="module")
def long_named(ten_classes: Report) -> str:
    """A page on which one class has a long name without a space, and one a long name with some."""
    text = ten_classes.model_dump_json(by_alias=True)
    for name, long in (("airplane", LONG), ("ship", "Mild to moderate non-proliferative diabetic retinopathy")):
        text = text.replace(f'"{name}"', f'"{long}"')
    return drawn(Report.model_validate_json(text))


@pytest.mark.parametrize("width", [390, 1280])
def test_a_long_name_widens_nothing(browser: Any, long_named: str, tmp_path: Path, width: int) -> None:
    show(browser, long_named, tmp_path, width=width)
    assert browser.value("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('.cards li, .headline > div, table')].filter(e => !e.closest('.scroll'))"
    assert (
        browser.value(f"{wide}.filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.outerHTML.slice(0, 80))") == []
    )


@pytest.mark.parametrize("width", [390, 1280])
def test_a_long_name_is_not_set_letter_by_letter(browser: Any, long_named: str, tmp_path: Path, width: int) -> None:
    show(browser, long_named, tmp_path, width=width)
    names = f"[...document.querySelectorAll('th, td, dd')].filter(e => e.textContent.includes('{LONG}'))"
    narrow = f"{names}.filter(e => e.offsetParent && !e.closest('thead') && e.clientWidth < 60)"
    assert browser.value(f"{narrow}.map(e => e.outerHTML.slice(0, 80))") == []


@pytest.mark.parametrize("width", [1280])
def test_beside_a_long_name_every_stage_is_in_sight(browser: Any, long_named: str, tmp_path: Path, width: int) -> None:
    show(browser, long_named, tmp_path, width=width)
    box = "document.querySelector('[aria-label=\"Accuracy per class\"]')"
    assert browser.value(f"{box}.scrollWidth <= {box}.clientWidth")


def test_typing_a_name_leaves_that_class(browser: Any, crowd: Report, tmp_path: Path) -> None:
    show(browser, drawn(crowd), tmp_path)
    browser.value("document.querySelector('.filter input').focus()")
    browser.call("Input.insertText", text="SPECIES 0007")
    rows = "[...document.querySelectorAll('tbody.filtered tr')].filter(row => row.offsetParent)"
    assert browser.value(f"{rows}.map(row => row.cells[0].textContent)") == ["species 0007 of Lepidoptera"]
    assert browser.value("document.querySelector('.filter output').textContent") == "1 of 1000 classes"


def test_the_first_tab_leads_past_the_navigation(browser: Any, page: str, tmp_path: Path) -> None:
    show(browser, page, tmp_path)
    for key in ("Tab", "Enter"):
        code = {"Tab": 9, "Enter": 13}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        browser.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
        browser.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)
        if key == "Tab":
            assert browser.value("document.activeElement.className") == "skip"
            assert browser.value("document.activeElement.getBoundingClientRect().top") >= 0
    assert browser.value("document.activeElement.id") == "main"
