"""A desk on the built-in model and a browser that opens it. Without chromium all of it is skipped, in a
sentence.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio"]
REFUSED = "responded with a status of 4"  # what tests ask for that cannot be done


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pictures", help="folder into which pictures of the pages are put (docs/desk)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.web)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium: install it (apt install chromium), or set CHROMIUM to its path")
    api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: run 'make test-web'"
    )
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[str]:
    """The link that 'linernotes desk' prints, and a desk behind it."""
    folder = tmp_path_factory.mktemp("desk")
    words = [sys.executable, "-m", "linernotes", "desk", str(folder / "desk"), "--port", "0"]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://\S+", line)
    assert found, f"the desk printed {line!r}"
    yield found.group()
    process.terminate()
    assert process.wait(30) == 0
    process.stdout.close()


def is_wrong(said: ConsoleMessage) -> bool:
    """Whether the console says that something is wrong with a page, and not with what a test asked of it."""
    return said.type == "error" and REFUSED not in said.text


@pytest.fixture
def opened(browser: Browser, desk: str) -> Iterator[Callable[..., Page]]:
    """Opens a page of the desk; fails at its end if any page wrote an error or broke the content policy."""
    contexts = []
    wrong: list[str] = []

    def go(path: str = "/", width: int = 1280, scheme: str = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console", lambda m: wrong.append(m.text) if m.type == "error" and REFUSED not in m.text else None
        )
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(desk.split("/?")[0] + path)
        return page

    yield go
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """Keeps a picture of a page for the docs, where that is wanted."""
    folder = request.config.getoption("--pictures")

    def take(page: Page, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name}.png")

    return take
