"""The desk as people use it, in a real browser: the whole way from a prompt to a statement, by keys, for
screen readers, at three widths, in light and dark. One clip is made for all tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROMPT = "a jig in G major for flute, lively, 6/8 time"
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
MADE_MS = 300_000  # a clip made and attributed, on a machine that does other things as well
PLAYING = "[...document.querySelectorAll('audio')].filter(a => !a.paused).map(a => a.id)"
TIME = "id => document.getElementById(id).currentTime"
REWOUND = "id => { document.getElementById(id).currentTime = 1 }"
WIDTHS = (380, 800, 1280)


def until(page: Any, holds: str, arg: object = None) -> None:
    """Waits until a function of the page holds. Playwright's own way needs the page to evaluate text,
    which the desk's content policy forbids.
    """
    ends = time.monotonic() + 20
    while not page.evaluate(holds, arg):
        assert time.monotonic() < ends, f"never so: {holds}"
        page.wait_for_timeout(50)


Opened = Callable[..., Any]
Picture = Callable[[Any, str], None]


@pytest.fixture(scope="module")
def made(browser: Any, desk: str) -> dict[str, str]:
    """The addresses of what the whole way makes: clip, statement, blind test, comparison."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(MADE_MS)
    page.goto(desk)
    assert "token" not in page.url  # it is in a cookie now
    page.get_by_label("Prompt", exact=True).fill(PROMPT)
    page.get_by_label("Seed").fill("7")
    page.get_by_role("button", name="Make and attribute").click()
    page.get_by_role("row").filter(has_text="can be named").wait_for()  # the table follows by itself
    page.get_by_role("link", name=PROMPT).first.click()
    page.get_by_role("heading", name="What shaped this clip?").wait_for()
    found = {"clip": page.url}
    page.get_by_role("button", name="Credit people").click()
    page.get_by_role("heading", name="Whose it is").wait_for()
    page.get_by_role("link", name="Accounts").click()
    page.get_by_role("button", name="Draw up").click()
    page.get_by_text("All checks hold.").wait_for()
    found["statement"] = page.url
    page.goto(found["clip"])
    page.get_by_role("button", name="Listen blind").click()
    page.get_by_role("heading", name="Which track is closer to the clip?").wait_for()
    found["blind"] = page.url
    page.goto(found["clip"])
    page.get_by_role("link", name="Compare methods").click()
    for name in ("activations",):
        page.get_by_label(name).uncheck()
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("heading", name="How far they agree").wait_for()
    found["comparison"] = page.url
    context.close()
    return {name: "/" + url.split("/", 3)[3] for name, url in found.items()}


PAGES = (
    "/clips",
    "clip",
    "/catalogue",
    "/catalogue/tracks/5",
    "/catalogue/rejects",
    "/compare",
    "comparison",
    "/blind",
    "blind",
    "/accounts",
    "statement",
    "/truth",
    "/docs",
    "/nothing",
)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_accessible_at_every_width_in_light_and_dark(
    path: str, made: dict[str, str], browser: Any, desk: str
) -> None:
    for scheme, width in (("light", 1280), ("dark", 380)):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = context.new_page()
        page.goto(desk.split("/?")[0] + made.get(path, path))
        page.wait_for_load_state("load")
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("() => axe.run({resultTypes: ['violations']})")
        assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found["violations"]] == []
        context.close()


@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_wider_than_its_window(path: str, made: dict[str, str], opened: Opened) -> None:
    for width in WIDTHS:
        page = opened(made.get(path, path), width)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, width


def test_keys_switch_between_clip_and_tracks_without_losing_the_place(
    made: dict[str, str], opened: Opened
) -> None:
    page = opened(made["clip"])
    page.locator("#clip").wait_for(state="attached")
    page.keyboard.press(" ")
    until(page, f"() => {PLAYING}.join() === 'clip' && document.getElementById('clip').currentTime > 0.5")
    at = page.evaluate(TIME, "clip")
    page.keyboard.press("2")
    until(page, f"() => {PLAYING}.join() === 'track-2'")
    assert page.evaluate(TIME, "track-2") >= at - 0.1
    page.evaluate(REWOUND, "track-2")  # a clip is six seconds long, and a machine may have other things to do
    page.keyboard.press("0")
    until(page, f"() => {PLAYING}.join() === 'clip'")
    page.keyboard.press(" ")
    until(page, f"() => {PLAYING}.length === 0")


def test_one_key_plays_aligned_passages_in_turn(made: dict[str, str], opened: Opened) -> None:
    page = opened(made["clip"])
    page.locator("button[data-player]").first.wait_for()
    page.keyboard.press("l")
    until(page, f"() => {PLAYING}.join() === 'clip'")
    assert page.locator("button[data-player][aria-pressed=true]").count() == 1
    until(page, f"() => {PLAYING}.join().startsWith('track') || {PLAYING}.join().startsWith('passage')")
    page.keyboard.press("Escape")
    until(page, f"() => {PLAYING}.length === 0")


def test_keys_do_nothing_where_one_writes(made: dict[str, str], opened: Opened) -> None:
    page = opened("/clips")
    page.get_by_label("Prompt", exact=True).click()
    page.keyboard.type("0 a b l 1")
    assert page.get_by_label("Prompt", exact=True).input_value() == "0 a b l 1"


def test_a_blind_test_says_nothing_before_it_is_over(
    made: dict[str, str], opened: Opened, picture: Picture
) -> None:
    page = opened(made["blind"])
    of = int(page.title().split(" of ")[1].split(" ")[0])
    seen = []
    picture(page, "blind")
    for number in range(1, of + 1):
        page.get_by_text(f"pair {number} of {of}").wait_for()
        page.wait_for_load_state("load")
        seen.append(page.content())
        page.keyboard.press("1")
        until(page, "() => [...document.querySelectorAll('audio')].some(player => !player.paused)")
        page.keyboard.press("a" if number % 2 else "b")
    page.get_by_role("heading", name="What you heard").wait_for()
    assert f"of {of} pairs" in page.locator(".figure").inner_text()
    titles = page.locator("tbody a").all_inner_texts()
    assert len(titles) == 2 * of
    assert not [title for title in titles for html in seen if title in html]
    answers = page.request.get(page.url.split("/blind")[0] + "/blind/answers.csv").text().splitlines()
    assert len(answers) == of + 1


def test_searches_answer_while_one_writes(made: dict[str, str], opened: Opened) -> None:
    page = opened("/catalogue")
    everything = page.locator("#table caption").inner_text()
    page.get_by_label("Search").press_sequentially("xylophone jig")
    until(page, "before => document.querySelector('#table caption').innerText !== before", arg=everything)
    for row in page.locator("#table tbody tr").all():
        assert "xylophone" in row.inner_text()
    assert "words=xylophone" in page.url
    page.get_by_label("Search").fill("no such track at all")
    page.get_by_text("No track is like that.").wait_for()


def test_a_track_is_heard_drawn_and_leads_to_the_clips_it_shaped(
    made: dict[str, str], opened: Opened
) -> None:
    page = opened(made["clip"])
    title = page.locator(".shares tbody th").first.inner_text()
    page.goto(page.url.split("/clips")[0] + "/catalogue")
    page.get_by_label("Search").fill(f'"{title}"')
    page.locator("#table tbody tr").filter(has_text=title).first.get_by_role("link").click()
    page.get_by_role("heading", name=title).wait_for()
    page.locator("[data-wave] > div").wait_for(state="attached")
    page.keyboard.press(" ")
    until(page, "() => document.getElementById('track').currentTime > 0.2")
    page.get_by_role("row").filter(has_text=PROMPT).get_by_role("link").click()
    page.get_by_role("heading", name="What shaped this clip?").wait_for()


def test_a_statements_lines_open_to_their_clips(made: dict[str, str], opened: Opened) -> None:
    page = opened(made["statement"])
    page.locator("tbody details summary").first.click()
    page.locator("tbody details a").first.click()
    page.get_by_role("heading", name="What shaped this clip?").wait_for()


def test_a_file_that_is_dropped_on_the_page_is_taken(
    made: dict[str, str], opened: Opened, tmp_path: Path
) -> None:
    page = opened("/clips")
    before = page.get_by_role("row").count()
    page.get_by_label("A sound file").set_input_files(__file__)
    page.get_by_role("button", name="Attribute", exact=True).click()
    page.get_by_text("is not called like sound").wait_for()
    page.goto(page.url.split("/clips")[0] + "/clips")
    assert page.get_by_role("row").count() == before


def test_the_whole_way_goes_by_keyboard(made: dict[str, str], opened: Opened) -> None:
    page = opened("/clips")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the page"
    names = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        names.add(
            page.evaluate("(document.activeElement.innerText || document.activeElement.name || '').trim()")
        )
    assert {
        "Clips",
        "Catalogue",
        "Compare",
        "Blind test",
        "Accounts",
        "Truth",
        "prompt",
        "Make and attribute",
        PROMPT,
    } <= names


def test_pictures(made: dict[str, str], opened: Opened, picture: Picture) -> None:
    """Every page once more, for the docs."""
    for name, path in [
        ("clips", "/clips"),
        ("clip", made["clip"]),
        ("catalogue", "/catalogue?words=jig"),
        ("compare", made["comparison"]),
        ("accounts", made["statement"]),
        ("truth", "/truth"),
    ]:
        page = opened(path)
        page.wait_for_timeout(500)
        picture(page, name)
    picture(opened(made["clip"], 380, "dark"), "phone")
    page = opened(made["clip"])
    title = page.locator(".shares tbody th").first.inner_text()
    page.goto(page.url.split("/clips")[0] + f"/catalogue?words={title}")
    page.locator("#table tbody a").first.click()
    page.locator("[data-wave] > div").wait_for(state="attached")
    page.wait_for_timeout(500)
    picture(page, "track")
