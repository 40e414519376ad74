"""The built site in headless Chromium, from file://: it works, asks nobody for anything, and everyone can read it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

import pytest
from foolbench.leaderboard.site.site import build
from record_attacks import SIX
from records import HOSTILE, OTHERS, RECIPES, write_run

CHROMIUM = Path(os.environ.get("FOOLBENCH_CHROMIUM", "/usr/bin/chromium"))
AXE = ("axe-core@4.14.1", "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c")
if not CHROMIUM.exists():
    pytest.skip(f"no Chromium at {CHROMIUM}: install it or set FOOLBENCH_CHROMIUM", allow_module_level=True)

from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402  (after the skip: it may be absent too)

NAMES = "#leaderboard tbody.rows:not(.unranked) tr th"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    for recipe in (*RECIPES[:5], RECIPES[6], OTHERS[1]):
        write_run(folder / "runs", recipe)
    build([folder / "runs"], folder / "site")
    for recipe in RECIPES[:2]:
        write_run(folder / "more", replace(recipe, battery="digits-v2", ranked=(*SIX, "square"), beside=("plasma",)))
    build([folder / "more"], folder / "seven")
    (folder / "none").mkdir()
    build([folder / "none"], folder / "empty")
    return folder / "site"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test for a console message, a page error, a dialog or a request that is not to a file."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda m: wrong.append(f"console: {m.text}"))
    page.on("pageerror", lambda e: wrong.append(f"error: {e}"))
    page.on("dialog", lambda d: (wrong.append(f"dialog: {d.message}"), d.dismiss())[1])
    page.on("request", lambda r: None if r.url.startswith("file:") else wrong.append(f"request: {r.url}"))
    # A page that is left before its icon came aborts that request; anything else that fails is missing.
    page.on("requestfailed", lambda r: None if r.failure == "net::ERR_ABORTED" else wrong.append(f"failed: {r.url}"))
    yield page
    context.close()
    assert wrong == []


def pages_of(site: Path) -> list[Path]:
    entries = sorted((site / "e").iterdir())
    chosen = [
        next(e for e in entries if mark in e.name) for mark in ("behind", "forest", "script", "interrupted", "signs")
    ]
    seven, empty = site.parent / "seven", site.parent / "empty"
    others = [seven / "index.html", next(seven.glob("e/*behind*/index.html")), empty / "index.html"]
    return [site / "index.html", site / "methods.html", site / "404.html", *(e / "index.html" for e in chosen), *others]


def names(page: Page) -> list[str]:
    return page.locator(f"{NAMES} > a").all_inner_texts()


def test_every_page_opens_and_fits_a_narrow_phone(page: Page, site: Path) -> None:
    for width in (320, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        for file in pages_of(site):
            page.goto(file.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width, file
            page.evaluate("document.querySelectorAll('img').forEach(i => { i.loading = 'eager' })")
            page.wait_for_load_state("networkidle")
            broken = "Array.from(document.images).filter(i => !i.complete || !i.naturalWidth).map(i => i.src)"
            assert page.evaluate(broken) == [], file


def test_seven_attacks_fit_a_screen_and_keep_their_names_in_sight_on_a_phone(page: Page, site: Path) -> None:
    page.goto((site.parent / "seven" / "index.html").as_uri())
    table = page.locator(".scroll:has(#leaderboard)")
    width = "box => [box.scrollWidth, box.clientWidth]"
    assert len(set(table.evaluate(width))) == 1
    page.set_viewport_size({"width": 390, "height": 844})
    whole, seen = table.evaluate(width)
    assert whole > seen
    table.evaluate("box => { box.scrollLeft = box.scrollWidth }")
    left, right = table.evaluate("box => [box.getBoundingClientRect().left, box.getBoundingClientRect().right]")
    for place in ("tbody th[scope=row]", "thead th[data-key=submission]"):
        box = table.locator(place).first.bounding_box()
        assert box is not None
        assert left <= box["x"]
        assert box["x"] + box["width"] < (left + right) / 2


def test_hostile_names_stay_words(page: Page, site: Path) -> None:
    page.goto((site / "index.html").as_uri())
    assert HOSTILE in names(page)
    page.get_by_role("link", name=HOSTILE, exact=True).first.click()
    assert page.locator("h1").inner_text() == HOSTILE
    assert page.locator("script").count() == 1


def test_sorting_by_click_and_by_keyboard(page: Page, site: Path) -> None:
    page.goto((site / "index.html").as_uri())
    built = names(page)
    score = page.locator("th[data-key=robust_score]")
    assert score.get_attribute("aria-sort") == "descending"
    score.get_by_role("button").click()
    assert names(page) == built[::-1]
    assert score.get_attribute("aria-sort") == "ascending"
    name = page.locator("th[data-key=submission]")
    name.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert page.locator("#leaderboard th[aria-sort]").count() == 1
    assert name.get_attribute("aria-sort") == "ascending"
    by_name = names(page)
    assert by_name != built
    page.keyboard.press("Space")
    assert names(page) == by_name[::-1]
    assert "sort=submission&dir=desc" in page.url
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_what_is_missing_comes_last_both_ways(page: Page, site: Path) -> None:
    page.goto((site / "index.html").as_uri())
    cells = "#leaderboard tbody.rows.unranked tr td:nth-child(8)"
    column = page.locator("th[data-key=cppn]").get_by_role("button")
    for _ in range(2):
        column.click()
        assert page.locator(cells).last.inner_text().startswith("—")
    assert page.locator(cells).last.locator("a").get_attribute("href") in [
        f"#{note}" for note in page.locator(".notes li").evaluate_all("all => all.map(i => i.id)")
    ]


def test_the_address_keeps_the_state(page: Page, site: Path) -> None:
    index = (site / "index.html").as_uri()
    page.goto(f"{index}?sort=fgsm&dir=asc&q=FOREST&cols=9")
    assert page.locator("#status").inner_text() == "1 of 6 entries Ignored in the address: cols."
    assert page.locator("#leaderboard tbody.rows tr:visible").count() == 1
    assert page.locator("th[data-key=fgsm]").get_attribute("aria-sort") == "ascending"
    page.fill("#filter", "nobody has this name")
    assert page.locator("#status").inner_text() == "0 of 6 entries"
    assert page.locator("tbody.divider").is_hidden()
    page.fill("#filter", "")
    assert page.locator("#leaderboard tbody.rows tr:visible").count() == 6
    page.goto(f"{index}?sort=nonsense")
    assert page.locator("#status").inner_text() == "Ignored in the address: sort."


def test_without_scripts_the_board_reads_in_full(browser: Browser, site: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    assert page.locator("#leaderboard tbody.rows tr").count() == 6
    assert page.locator("button").count() == 0
    assert page.locator("#filter").is_hidden()
    context.close()


def test_the_policy_stops_what_is_not_ours(browser: Browser, site: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    page.evaluate("stopped = []; addEventListener('securitypolicyviolation', e => stopped.push(e.effectiveDirective))")
    planted = '<img src="https://example.org/x.png" onerror="y = 1" style="color: red">'
    page.evaluate("html => document.body.insertAdjacentHTML('beforeend', html)", planted)
    page.wait_for_function("stopped.length >= 3")
    assert set(page.evaluate("stopped")) == {"img-src", "script-src-attr", "style-src-attr"}
    assert page.evaluate("typeof y") == "undefined"
    context.close()


def test_dark_pages_are_dark(browser: Browser, site: Path) -> None:
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 27)"
    assert page.locator("img.chart").evaluate("i => { i.loading = 'eager'; return i.currentSrc || i.src }")
    page.locator("img.chart").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('img.chart').currentSrc.endsWith('-dark.svg')")
    context.close()


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> str:
    """axe-core's source: from npm's registry once, then from pytest's cache. Checked by its sha256."""
    package, digest = AXE
    cache = request.config.cache
    kept = (cache.mkdir("axe") if cache else tmp_path_factory.mktemp("axe")) / f"{digest[:12]}.js"
    if not kept.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("axe-core is fetched with npm, which is not installed")
        folder = tmp_path_factory.mktemp("npm")
        fetched = subprocess.run([npm, "pack", package, "--silent"], cwd=folder, capture_output=True, timeout=120)
        if fetched.returncode:
            pytest.skip(f"axe-core could not be fetched: {fetched.stderr.decode(errors='replace')[-200:]}")
        with tarfile.open(next(folder.glob("*.tgz"))) as archive:
            member = archive.extractfile("package/axe.min.js")
            assert member is not None
            source = member.read()
        assert sha256(source).hexdigest() == digest
        kept.write_bytes(source)
    return kept.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(
    browser: Browser, site: Path, axe: str, scheme: Literal["light", "dark"], width: int
) -> None:
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 900}, reduced_motion="reduce", bypass_csp=True
    )
    page = context.new_page()
    tags = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
    found = []
    for file in pages_of(site):
        page.goto(file.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
        page.evaluate(axe)
        result = page.evaluate("tags => axe.run(document, { runOnly: { type: 'tag', values: tags } })", tags)
        found += [(file.parent.name, v["id"], v["nodes"][0]["html"][:200]) for v in result["violations"]]
    context.close()
    assert found == []
