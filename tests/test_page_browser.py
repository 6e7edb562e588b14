"""The page in a real browser: it asks the network for nothing, fits, and all can read it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pages
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.tools, pytest.mark.timeout(300)]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
AXE = Path(os.environ.get("SUBRUNNER_TEST_AXE", "node_modules/axe-core/axe.min.js")).resolve()
"""axe-core's own file (npm: axe-core); read before each test's environment is emptied."""

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
RUNS = {
    "everything": pages.everything(),
    "killed": pages.killed(),
    "one": pages.plain(1),
    "sixty": pages.plain(60, failing=2),
}
LOOKS = [(width, mode) for width in (360, 768, 1280) for mode in ("light", "dark")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM or not DRIVER:
        pytest.skip("chromium and chromedriver are not installed: see .ci/readers.sh")
    # By name: this module is collected, and its types are checked, where no selenium is, too.
    webdriver: Any = import_module("selenium.webdriver")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        try:
            yield driver
        finally:
            driver.quit()


@pytest.fixture(scope="module")
def written() -> Iterator[dict[str, Path]]:
    with tempfile.TemporaryDirectory() as folder:
        found = {name: Path(folder) / f"{name}.html" for name in RUNS}
        for name, path in found.items():
            path.write_text(pages.page(RUNS[name]), "utf-8")
        yield found


def show(browser: Any, path: Path, width: int, mode: str) -> None:
    """Load a page in a window so wide, with the user's wish for light or dark."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    wish = {"features": [{"name": "prefers-color-scheme", "value": mode}]}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wish)
    browser.get(path.as_uri())


def open_all(browser: Any) -> None:
    browser.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")


@pytest.mark.parametrize("name", RUNS)
def test_it_asks_for_nothing_and_complains_of_nothing(
    name: str, browser: Any, written: dict[str, Path]
) -> None:
    browser.get("about:blank")  # what the browser's own first tab asked for is no matter
    browser.get_log("performance")
    show(browser, written[name], 1280, "light")
    open_all(browser)
    told = [json.loads(one["message"])["message"] for one in browser.get_log("performance")]
    asked = [
        one["params"]["request"]["url"]
        for one in told
        if one["method"] == "Network.requestWillBeSent"
    ]
    assert asked == [written[name].as_uri()]
    assert browser.get_log("browser") == []
    # What commands and models wrote is text: the one script of the story never ran.
    assert browser.execute_script("return document.scripts.length") == 0


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize(("width", "mode"), LOOKS)
def test_it_fits(name: str, width: int, mode: str, browser: Any, written: dict[str, Path]) -> None:
    show(browser, written[name], width, mode)
    for _ in range(2):
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        assert wide <= width
        out = browser.execute_script(
            """
            const inner = one => one.closest('.scroll, .unseen, .skip') !== null;
            return [...document.querySelectorAll('body *')]
              .filter(one => !inner(one) && one.getBoundingClientRect().right > innerWidth + 2)
              .map(one => one.outerHTML.slice(0, 120))
            """
        )
        assert out == []
        open_all(browser)
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if mode == "light" else "rgb(21, 25, 29)")


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_no_barrier(
    name: str, mode: str, width: int, browser: Any, written: dict[str, Path]
) -> None:
    if not AXE.is_file():
        pytest.skip(f"axe-core is not at {AXE}: see .ci/readers.sh")
    show(browser, written[name], width, mode)
    open_all(browser)
    browser.execute_script(AXE.read_text("utf-8"))
    found = browser.execute_async_script(
        "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(done)"
    )
    assert len(found["passes"]) > 10
    wrong = [
        f"{one['id']}: {node['html'][:160]}" for one in found["violations"] for node in one["nodes"]
    ]
    assert wrong == []


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("width", [360, 1280])
def test_charts_are_drawn(name: str, width: int, browser: Any, written: dict[str, Path]) -> None:
    show(browser, written[name], width, "light")
    # Of each: its own width and height, what its frame gives it, and whether a bar is seen.
    charts = browser.execute_script(
        """
        return [...document.querySelectorAll('svg[role=img]')].map(one => {
          const box = one.getBoundingClientRect(), frame = one.parentElement.clientWidth;
          const bars = [...one.querySelectorAll('rect')].map(bar => bar.getBoundingClientRect());
          return [box.width, box.height, frame, bars.filter(bar => bar.height > 0).length,
                  bars.filter(bar => bar.right > box.right + 2 || bar.left < box.left - 2).length];
        })
        """
    )
    assert len(charts) >= {"everything": 5, "killed": 4, "one": 1, "sixty": 60}[name]
    for wide, high, frame, bars, outside in charts:
        assert wide > 200
        assert high > 20
        assert wide <= frame + 1
        assert bars > 0
        assert outside == 0


def test_it_can_be_gone_through_by_keyboard(browser: Any, written: dict[str, Path]) -> None:
    show(browser, written["everything"], 1280, "light")
    seen: list[tuple[str, str]] = []
    for _ in range(12):
        press = {"type": "keyDown", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
        browser.execute_cdp_cmd("Input.dispatchKeyEvent", press)
        browser.execute_cdp_cmd("Input.dispatchKeyEvent", {**press, "type": "keyUp"})
        seen.append(
            browser.execute_script(
                "const one = document.activeElement;"
                "return [one.textContent, getComputedStyle(one).outlineStyle]"
            )
        )
    assert seen[0][0] == "To the content"
    assert seen[1][0] == "What failed"
    assert {style for _, style in seen} == {"solid"}


def test_paper_is_white_and_shows_what_is_folded(browser: Any, written: dict[str, Path]) -> None:
    seen = (
        "return [...document.querySelectorAll('details table')].map(one => one.checkVisibility())"
    )
    show(browser, written["everything"], 1280, "dark")
    assert not any(browser.execute_script(seen))
    wish = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wish)
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(255, 255, 255)"
    assert all(browser.execute_script(seen))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
