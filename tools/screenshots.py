"""`make screenshots`: photographs the dashboard and the pages of `lakeflow-local ui` for the documents.

Wants what `make demo` has made, and Debian's packages chromium and chromium-driver.
"""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from lakeflow_local import home as homes
from lakeflow_local.bundle.runs import Runs

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
DASHBOARD = ROOT / "dashboards" / "data_quality.lvdash.json"
WIDTH, MOST_HEIGHT = 1280, 1000
MOST_OF_DASHBOARD = 2700
_COMMAND = [sys.executable, "-m", "lakeflow_local.cli"]
_SQL = """SELECT country_name, count(*) AS members, min(email) AS first_email
FROM silver.members GROUP BY ALL ORDER BY members DESC"""


def main() -> None:
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        sys.exit("error: there is no chromium with its driver; install the packages chromium and chromium-driver")
    home = homes.find(ROOT)
    run = Runs(home, "members_refresh").last()
    if run is None:
        sys.exit("error: nothing has run yet; run make demo first")
    page = home.path / "dashboard.html"
    subprocess.run([*_COMMAND, "dashboard", "preview", str(DASHBOARD), "-o", str(page)], cwd=ROOT, check=True)
    with _browser() as browser, _served() as url:
        _dashboard(browser, page)
        _pages(browser, url, run.run_id)
        _query(browser, url)


def _dashboard(browser: webdriver.Chrome, page: Path) -> None:
    browser.get(page.as_uri())
    WebDriverWait(browser, 60).until(lambda _: browser.find_elements(By.CSS_SELECTOR, "[data-ready]"))
    for section in browser.find_elements(By.CSS_SELECTOR, "main > section"):
        _photograph(browser, f"dashboard_{section.get_attribute('id')}", section)


def _pages(browser: webdriver.Chrome, url: str, run_id: int) -> None:
    base = url.partition("/?")[0]
    browser.get(url)
    for name, path, scheme in (
        ("ui_home", "/", "light"),
        ("ui_pipeline", "/pipelines/members", "light"),
        ("ui_pipeline_dark", "/pipelines/members", "dark"),
        ("ui_run", f"/jobs/members_refresh/runs/{run_id}", "light"),
        ("ui_table", "/tables/silver/members", "dark"),
    ):
        browser.get(base + path)
        _photograph(browser, name, scheme=scheme)


def _query(browser: webdriver.Chrome, url: str) -> None:
    browser.get(url.partition("/?")[0] + "/sql")
    browser.find_element(By.ID, "text").send_keys(_SQL)
    browser.find_element(By.CSS_SELECTOR, "button.main").click()
    WebDriverWait(browser, 120).until(lambda _: browser.find_elements(By.CSS_SELECTOR, "table.data"))
    _photograph(browser, "ui_sql")


@contextmanager
def _browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for switch in (
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            f"--user-data-dir={folder}",
        ):
            options.add_argument(switch)
        browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        size = {"width": WIDTH, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        try:
            yield browser
        finally:
            browser.quit()


@contextmanager
def _served() -> Iterator[str]:
    server = subprocess.Popen([*_COMMAND, "ui"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.communicate(timeout=60)


def _photograph(
    browser: webdriver.Chrome, name: str, element: WebElement | None = None, *, scheme: str = "light"
) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    area = {"x": 0, "y": 0, "width": WIDTH}
    if element is None:
        area["height"] = browser.execute_script("return document.body.offsetHeight")
    else:
        area = {key: element.rect[key] for key in ("x", "y", "width", "height")}
    area["height"] = min(area["height"] + 8, MOST_HEIGHT if element is None else MOST_OF_DASHBOARD)
    taken = browser.execute_cdp_cmd(
        "Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True, "clip": {**area, "scale": 1}}
    )
    picture = Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB").quantize(256)
    picture.save(PICTURES / f"{name}.png", optimize=True)
    print(f"docs/pictures/{name}.png: {(PICTURES / f'{name}.png').stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
