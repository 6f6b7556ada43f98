"""What a reader's browser makes of a report."""

import unicodedata

import pypdf
import pytest

from conftest import SCREENSHOTS


def opened(browser, page, width, scheme):
    """A page, what its console said, and what it asked for beside itself."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab = context.new_page()
    said, asked = [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    return tab, said, [url for url in asked if url != page.as_uri() and not url.startswith("data:")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [420, 1400])
def test_a_page_fits_its_window_and_leaves_no_trace(browser, pages, width, scheme):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for page in pages:
        tab, said, asked = opened(browser, page, width, scheme)
        assert said == [] and asked == []
        sizes = tab.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert sizes[0] <= sizes[1], f"{page.name}: {sizes[0]} pixels in a window of {sizes[1]}"
        # What is wider than its place scrolls in a frame of its own; nothing sticks out of the window beside that.
        outside = tab.evaluate(
            """() => [...document.querySelectorAll('main *')]
                .filter(e => !e.closest('.wide') && !e.closest('svg') && e.getBoundingClientRect().right > innerWidth + 1)
                .map(e => e.outerHTML.slice(0, 80))"""
        )
        assert outside == []
        paper, ink = tab.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
        brightness = lambda color: sum(int(part) for part in color[4:-1].split(","))
        assert (brightness(paper) > brightness(ink)) == (scheme == "light")
        tab.screenshot(path=SCREENSHOTS / f"{page.stem}-{width}-{scheme}.png", full_page=True)
        tab.context.close()


def test_curves_say_their_values_under_the_pointer(browser, pages):
    for page in pages:
        tab, *_ = opened(browser, page, 1400, "light")
        spots = tab.locator("circle.spot")
        assert spots.count() > 0
        spot = spots.first
        assert "epoch" in spot.locator("title").text_content()
        spot.scroll_into_view_if_needed()
        before = spot.evaluate("e => getComputedStyle(e).fill")
        # The last of those that lie on each other is the one on top.
        spots.last.hover()
        assert spots.last.evaluate("e => getComputedStyle(e).fill") != before
        tab.context.close()


def test_runs_of_one_name_are_told_apart(browser, pages):
    for page in pages:
        tab, *_ = opened(browser, page, 1400, "light")
        names = tab.locator("table.summary tbody th").all_text_contents()
        assert len(set(names)) == len(names), names
        tab.context.close()


def squeezed(text: str) -> str:
    """Without blanks, and with letters that a font has joined as they were."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def test_paper_has_all_of_it(browser, pages):
    for page in pages:
        tab, *_ = opened(browser, page, 1400, "light")
        pdf = SCREENSHOTS / f"{page.stem}.pdf"
        tab.pdf(path=pdf, format="A4", prefer_css_page_size=True)
        text = squeezed(" ".join(part.extract_text() for part in pypdf.PdfReader(pdf).pages))
        wanted = tab.evaluate(
            "[...document.querySelectorAll('h1, h2, h3, h4, .facts dd, .summary td, caption, figcaption, pre code')].map(e => e.textContent)"
        )
        assert wanted
        missing = [words for words in wanted if squeezed(words)[:40] not in text]
        assert missing == []
        tab.context.close()
