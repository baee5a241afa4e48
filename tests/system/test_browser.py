"""rq-dashboard on cronq's runs in a real browser: what people see, and what its buttons do to the ledger.

Needs Debian's `chromium` and `chromium-driver`, and `pip install selenium`; skipped without. `CRONQ_SCREENSHOTS` names
a directory for pictures of the pages.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cronq.app.views import run_row
from tests.conftest import RedisServer
from tests.system.processes import until
from tests.system.worker_processes import Installation, installation

pytest.importorskip("rq_dashboard", reason="rq-dashboard is not installed; it comes with the extra `test`")
pytest.importorskip("selenium", reason="no browser test: pip install selenium")
PROGRAMS = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
if not all(PROGRAMS.values()):
    pytest.skip("no browser test: apt-get install chromium chromium-driver", allow_module_level=True)


class Browser:
    """A headless chromium on one dashboard."""

    def __init__(self, url: str, profile: Path) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = PROGRAMS["chromium"] or ""
        wanted = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900")
        for word in (*wanted, f"--user-data-dir={profile}"):
            options.add_argument(word)
        service = webdriver.ChromeService(executable_path=PROGRAMS["chromedriver"])
        self.driver = webdriver.Chrome(options=options, service=service)
        self.url = url

    def open(self, path: str, *words: str) -> str:
        """Open a page and wait until it shows all *words*; its text."""
        self.driver.get(self.url + path)
        return self.shows(*words)

    def shows(self, *words: str) -> str:
        until(lambda: all(word in self.text for word in words), what=lambda: f"{words} in\n{self.text}")
        return self.text

    @property
    def text(self) -> str:
        """What a person can read on the page; without anything while it is being drawn anew."""
        from selenium.common.exceptions import StaleElementReferenceException

        try:
            return str(self.driver.find_element("tag name", "body").text)
        except StaleElementReferenceException:
            return ""

    def click(self, css: str) -> None:
        """Click the first such element once it can be seen; the page draws its tables anew every few seconds."""
        from selenium.common.exceptions import WebDriverException

        def clicked() -> bool:
            try:
                self.driver.find_element("css selector", css).click()
            except WebDriverException:
                return False
            return True

        until(clicked, what=f"something to click at {css}")

    def picture(self, name: str) -> None:
        directory = os.environ.get("CRONQ_SCREENSHOTS")
        if directory:
            self.driver.save_screenshot(str(Path(directory) / f"{name}.png"))

    def close(self) -> None:
        self.driver.quit()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    server = RedisServer()
    try:
        with installation(server.url, tmp_path_factory.mktemp("shop"), CRONQ_LOST_AFTER="3s") as made:
            made.worker()
            made.beat()
            yield made
    finally:
        server.stop()


@pytest.fixture(scope="module")
def browser(shop: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = str(found.getsockname()[1])
    dashboard = shop._start("dashboard", [sys.executable, "-m", "cronq.dashboard"], {"PORT": port})
    dashboard.wait_for_line("dashboard on")
    browser = Browser(f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("profile"))
    try:
        yield browser
    finally:
        browser.close()


def test_queues_finished_failed_job_and_workers_show_the_runs_of_cronq(shop: Installation, browser: Browser) -> None:
    tick = shop.claim_tick("about")
    shop.settles(tick)
    failed = shop.result("fail", "no <b>paper</b>")
    waiting = shop.enqueue("add-low")
    running = shop.enqueue("sleep", 1000)
    worker = shop.begins(running).worker or ""

    queues = browser.open("/", "default", "low")
    browser.picture("1-queues")
    finished = browser.open("/0/view/jobs/default/finished/200/dsc/1", tick)
    browser.picture("2-finished")
    failures = browser.open("/0/view/jobs/default/failed/200/dsc/1", failed.run_id, "ValueError")
    browser.picture("3-failed")
    queued = browser.open("/0/view/jobs/low/queued/200/dsc/1", waiting)
    job = browser.open(f"/0/view/job/{tick}", "Metadata", "finished")
    browser.picture("4-job")
    wrong = browser.open(f"/0/view/job/{failed.run_id}", "no <b>paper</b>")
    browser.picture("5-failed-job")
    workers = browser.open("/0/view/workers", worker)
    browser.picture("6-workers")

    assert "Loading" not in queues
    assert f"about @ {run_row(shop.row(tick))['tick'][:10]}" in finished
    assert f"fail (by hand, {failed.run_id.rsplit('-', 1)[1]})" in failures
    assert "add-low (by hand" in queued
    assert '"cronq_job": "about"' in job
    assert '"schedule": "0 0 1 1 *"' in job
    assert "ValueError: no <b>paper</b>" in wrong, "text of a job is text, and not part of the page"
    assert worker.startswith("box.")
    assert "cronq.perform('sleep'" in workers
    shop.app.stop(running)
    shop.settles(running)


def test_requeue_makes_the_second_attempt_of_the_same_run(shop: Installation, browser: Browser) -> None:
    first = shop.result("fail-once")
    browser.open("/0/view/jobs/default/failed/200/dsc/1", first.run_id)

    browser.click(f"tr[data-job-id='{first.run_id}'] [data-role=requeue-job-btn]")
    second = shop.settles(first.run_id, attempt=2)

    assert (second.outcome, second.attempt) == ("succeeded", 2)
    assert [(each.attempt, each.outcome) for each in second.attempts] == [(1, "failed")]
    browser.open("/0/view/jobs/default/finished/200/dsc/1", first.run_id)
    browser.picture("7-requeued")


def test_requeue_on_the_page_of_a_run_does_the_same(shop: Installation, browser: Browser) -> None:
    first = shop.result("fail-once")
    browser.open(f"/0/view/job/{first.run_id}", "the first attempt")

    browser.click("#requeue-job-btn")

    assert shop.settles(first.run_id, attempt=2).outcome == "succeeded"
    browser.shows("attempt 2", "finished")


def test_delete_and_empty_stop_queued_runs(shop: Installation, browser: Browser) -> None:
    kept, deleted = shop.enqueue("add-high"), shop.enqueue("add-high")
    browser.open("/0/view/jobs/high/queued/200/asc/1", kept, deleted)

    browser.click(f"tr[data-job-id='{deleted}'] [data-role=delete-job-btn]")
    browser.click("#confirmation-modal-yes")
    run = shop.settles(deleted)
    state = shop.row(kept).state
    browser.open("/0/view/jobs/high/queued/200/asc/1", kept)
    browser.click("#empty-btn")
    browser.click("#confirmation-modal-yes")

    assert (run.outcome, run.reason, state) == ("stopped", "removed from its queue", "queued")
    assert shop.settles(kept).reason == "removed from its queue"
