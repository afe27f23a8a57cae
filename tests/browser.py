"""Pages in headless Chromium: what they ask the network for, their errors, and faults that axe-core finds."""

import contextlib
import os
import shutil
from dataclasses import dataclass, field

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
]
# Chromium has no sandbox for root, as in containers.
if hasattr(os, "geteuid") and os.geteuid() == 0:
    FLAGS.append("--no-sandbox")
DESKTOP = (1400, 900)
PHONE = (390, 844)


@contextlib.contextmanager
def started():
    """Give a browser of Playwright; skip without Playwright or Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    program = os.environ.get("FASTRDM_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), "")
    if not program:
        pytest.skip("no chromium on PATH; install it, or set FASTRDM_CHROMIUM to its program")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Seen:
    """What a page did: requests that leave the machine, dialogs, and errors and warnings of its scripts."""

    requests: list = field(default_factory=list)
    dialogs: list = field(default_factory=list)
    errors: list = field(default_factory=list)

    @property
    def anything(self):
        return [*self.requests, *self.dialogs, *self.errors]


@contextlib.contextmanager
def opened(browser, path, size=DESKTOP, **options):
    """Open a file in a context of its own without a network; give the page, and `Seen`, which must stay empty."""
    width, height = size
    options = {"viewport": {"width": width, "height": height}, "offline": True, **options}
    context = browser.new_context(**options)
    page, seen = context.new_page(), Seen()

    def asked(request):
        if not request.url.startswith(("file:", "data:", "blob:")):
            seen.requests.append(request.url)

    def shown(dialog):
        seen.dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("request", asked)
    page.on("dialog", shown)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on(
        "console",
        lambda message: message.type in ("error", "warning") and seen.errors.append(message.text),
    )
    page.goto(path.resolve().as_uri())
    try:
        yield page, seen
    finally:
        context.close()


def faults(page):
    """Serious and critical faults by axe-core, one line each."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not there")
    # Style sheets of files cannot be read again; only the rule on the screen's orientation would need that.
    found = axe.Axe().run(page, options={"preload": False}).response["violations"]
    return [
        f"{each['id']} ({each['impact']}): {each['help']}: {node['target']} {node['html'][:120]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def overflow(page):
    """Pixels by which the page is wider than its window."""
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
