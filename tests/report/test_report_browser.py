"""The page in headless Chromium: drawn without an error or a request, filtered, turned, by keyboard, light and dark."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from report_store import HOSTILE, fill

from definet_flows.report.page import COLUMNS, write_page
from definet_flows.report.reading import read_contents
from definet_flows.stores import Records, SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from selenium.webdriver.remote.webelement import WebElement

CHROMIUM = os.environ.get("DEFINET_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--use-angle=swiftshader",  # WebGL in software, for the structures
    "--enable-unsafe-swiftshader",
    "--window-size=1400,1000",
)
CHARTS = {"savings", "steps", "steps-size", "core-hours-size", "versions", "error-distance", "parity"}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None, reason="no chromium with chromedriver: apt-get install chromium-driver"
    ),
]


class Page:
    """The report of a store with every fate, open in a browser of its own."""

    def __init__(self, path: Path, profile: Path) -> None:
        from selenium import webdriver  # noqa: PLC0415 - the module is collected without a browser, too
        from selenium.webdriver.chrome.service import Service  # noqa: PLC0415

        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.address = path.as_uri()
        self.browser = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
        self.browser.set_script_timeout(240)
        self.browser.set_page_load_timeout(240)
        self.prefer("light")

    def prefer(self, scheme: str) -> None:
        """Let the system ask for light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self) -> None:
        """Load the page anew."""
        self.browser.get(self.address)

    def run(self, script: str, *arguments: object) -> Any:
        """Return what a script returns."""
        return self.browser.execute_script(script, *arguments)

    def log(self, kind: str) -> list[dict[str, Any]]:
        """Return what was logged since the last call."""
        return list(self.browser.get_log(kind))  # type: ignore[no-untyped-call]  # selenium does not type it

    def wait(self, condition: str) -> None:
        """Wait until an expression is true; the script timeout ends a wait in vain."""
        script = f"const done = arguments[0]; (function wait() {{ {condition} ? done() : setTimeout(wait, 50); }})();"
        self.browser.execute_async_script(script)

    def one(self, selector: str) -> WebElement:
        """Return the first element that matches."""
        return self.browser.find_element("css selector", selector)

    def show(self, selector: str) -> None:
        """Scroll to an element."""
        self.run("document.querySelector(arguments[0]).scrollIntoView()", selector)

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, wherever the focus is."""
        for key in keys:
            self.browser.switch_to.active_element.send_keys(key)

    def draw_all(self) -> None:
        """Scroll past every figure and the structures."""
        for key in sorted(CHARTS):
            self.show(f"#chart-{key}")
            self.wait(f"document.querySelector('#chart-{key}').dataset.drawn")
        self.show("#viewer")
        self.wait("document.querySelector('#viewer').dataset.shown")

    def rows(self) -> list[list[str]]:
        """Return the cells of the table that are shown."""
        script = (
            "return [...document.querySelectorAll('#table tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
        )
        return list(self.run(script))

    def choose(self, column: int, text: str) -> None:
        """Choose in the filter of a column."""
        self.run(
            "const s = document.querySelector(`#filters select[data-column='${arguments[0]}']`);"
            "s.value = [...s.options].find(o => o.text === arguments[1]).value;"
            "s.dispatchEvent(new Event('input', { bubbles: true }));",
            column,
            text,
        )


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("browser")
    with Records(SqliteStore(str(folder / "records.sqlite"))) as records:
        fill(records)
        write_page(read_contents(records, "test store"), folder / "report.html")
    page = Page(folder / "report.html", folder / "profile")
    try:
        yield page
    finally:
        page.browser.quit()


@pytest.fixture
def page(opened: Page) -> Page:
    opened.prefer("light")
    opened.open()
    return opened


def test_no_error_no_request_and_every_figure_drawn(page: Page) -> None:
    page.log("browser")
    page.log("performance")
    page.open()
    page.draw_all()
    complaints = [entry["message"] for entry in page.log("browser") if entry["level"] == "SEVERE"]
    assert complaints == []
    messages = [json.loads(entry["message"])["message"] for entry in page.log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [page.address]
    for key in CHARTS:
        drawn = page.run(
            f"return document.querySelectorAll('#chart-{key} .point, #chart-{key} .js-line, #chart-{key} .box').length"
        )
        assert drawn > 0, key


def test_hostile_names_are_text(page: Page) -> None:
    page.draw_all()
    assert HOSTILE in {row[0] for row in page.rows()}
    assert page.run("return document.images.length") == 0


def test_the_structure_is_drawn_and_turns(page: Page) -> None:
    page.draw_all()
    assert page.run("return document.querySelectorAll('#viewer canvas').length") == 1
    page.run("document.querySelector('#viewer').focus()")
    before = page.one("#viewer").screenshot_as_base64
    page.press("\ue014", "\ue014", "\ue014")  # arrow right
    after = page.one("#viewer").screenshot_as_base64
    assert before != after
    page.press("0")
    assert page.one("#viewer").screenshot_as_base64 == before


def test_layers_and_configurations_can_be_chosen_by_keyboard(page: Page) -> None:
    page.draw_all()
    first = page.one("#facts").text
    page.run("document.querySelector('#worst button').focus()")
    page.press("\ue015")  # arrow down
    assert page.run("return document.activeElement.dataset.overlay") == "1"
    assert page.one("#worst [aria-checked=true]").get_attribute("data-overlay") == "1"
    assert page.one("#facts").text != first
    before = page.one("#viewer").screenshot_as_base64
    page.run("document.querySelector('#layers [name=relaxed]').focus()")
    page.press(" ")
    assert page.one("#viewer").screenshot_as_base64 != before


def test_filters_search_and_sorting(page: Page) -> None:
    assert page.one("#count").text == "9 of 9 rows"
    outcome, start, steps = (COLUMNS.index(name) for name in ("outcome", "start from", "unrelaxed"))
    page.choose(outcome, "same minimum")
    assert page.one("#count").text == "3 of 9 rows"
    assert {row[outcome] for row in page.rows()} == {"same minimum"}
    page.choose(start, "definet · bbbbbbbb")
    assert len(page.rows()) == 1
    page.run("document.querySelector('#filters [type=reset]').click()")  # figures that are drawn move the button
    page.wait("document.querySelector('#count').textContent === '9 of 9 rows'")
    page.one("#search").send_keys("ONERROR")
    assert [row[0] for row in page.rows()] == [HOSTILE]
    page.one("#search").clear()
    page.run("document.querySelector('#filters').reset()")
    page.wait("document.querySelector('#count').textContent === '9 of 9 rows'")
    for direction, expected in (("ascending", "3"), ("descending", "50")):
        page.one(f"[data-sort='{steps}']").click()
        assert page.one("#table [aria-sort]:not([aria-sort=none])").get_attribute("aria-sort") == direction
        assert page.rows()[0][steps] == expected
        assert page.rows()[-1][steps] == "–"  # unknown stays last


def test_charges_are_sorted_as_numbers(page: Page) -> None:
    column = COLUMNS.index("charge")
    page.one(f"[data-sort='{column}']").click()
    assert [row[column] for row in page.rows()] == ["0"] * 8 + ["+1"]


def test_everything_is_reached_by_the_tab_key(page: Page) -> None:
    page.draw_all()
    page.run("window.scrollTo(0, 0); document.activeElement.blur()")
    reached = set()
    for _ in range(80):
        page.press("\ue004")
        name = page.run(
            "const e = document.activeElement;"
            "return e.id || e.dataset.sort && 'sort' || e.dataset.overlay && 'overlay' || e.dataset.column && 'filter'"
            "|| e.name || e.tagName.toLowerCase()"
        )
        if name == "next":  # enabled or not, nothing follows it
            break
        reached.add(name)
    assert {"a", "theme", "overlay", "viewer", "summary", "search", "filter", "sort", "vectors"} <= reached
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    page.run("document.querySelector('#theme').focus()")
    page.press("\ue004")
    assert page.run(outline) == "solid"


def test_light_and_dark_by_the_system_and_by_the_button(page: Page) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    ink = "return getComputedStyle(document.querySelector('#chart-savings .xtick text')).fill"
    page.draw_all()
    light, light_ink = page.run(ground), page.run(ink)
    page.prefer("dark")
    page.wait("document.querySelector('#theme').getAttribute('aria-pressed') === 'true'")
    dark = page.run(ground)
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(18, 22, 27)")
    page.wait(f"(() => {{ {ink} }})() !== '{light_ink}'")
    page.one("#theme").click()
    assert page.run(ground) == light
    page.open()  # the button's choice is of the moment
    assert page.run(ground) == dark


def test_nothing_is_wider_than_a_phone(page: Page) -> None:
    device = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    try:
        page.open()
        page.draw_all()
        assert page.run("return document.documentElement.scrollWidth") == 390
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_versions_of_the_same_day_stand_between_days_with_their_labels(page: Page) -> None:
    page.draw_all()
    ends = page.run("return document.querySelector('#chart-versions').layout.xaxis.range.map((x) => Date.parse(x))")
    assert ends[1] - ends[0] >= 2 * 24 * 3600 * 1000
    drawn = page.run(
        "return [...document.querySelectorAll('#chart-versions .textpoint')].map((text) => text.textContent)"
    )
    assert [text.strip() for text in drawn] == ["definet · aaaaaaaa", "definet · bbbbbbbb"]


def test_a_screen_of_1280_shows_ids_charges_and_cards(page: Page) -> None:
    device = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    try:
        page.open()
        page.draw_all()
        assert page.run("return document.documentElement.scrollWidth") <= 1280
        box, size = page.run(
            "const cell = document.querySelector('#table td.id'), box = cell.getBoundingClientRect();"
            "return [[box.left, box.right], parseFloat(getComputedStyle(cell).fontSize)];"
        )
        assert 0 <= box[0] < box[1] <= 1280
        assert size >= 12
        names = page.run("return [...document.querySelectorAll('.cards h3')].map((heading) => heading.textContent)")
        assert names == ["definet · bbbbbbbb", "definet · aaaaaaaa"]
        assert {row[COLUMNS.index("charge")] for row in page.rows()} == {"0", "+1"}
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_structure_has_a_legend_of_its_elements(page: Page) -> None:
    page.draw_all()
    found = page.run(
        "return [...document.querySelectorAll('#elements li')].map((item) => "
        "[item.textContent.trim(), getComputedStyle(item.firstChild).backgroundColor])"
    )
    assert [name for name, _ in found] == ["Mo", "S"]
    assert len({color for _, color in found}) == 2
    assert "charge 0" in page.one("#facts").text


def test_what_all_rows_share_is_no_column(page: Page) -> None:
    hidden = page.run("return [...document.querySelectorAll('#table th')].map((heading) => heading.hidden)")
    assert [name for name, left in zip(COLUMNS, hidden, strict=True) if left] == ["host", "engine"]
    assert page.one("#same").text == "All rows: host MoS2, engine sevennet."
