"""The built documentation site in a browser: faults of access, small screens, and nothing from the network."""

from pathlib import Path

import pytest
from browser import DESKTOP, PHONE, faults, opened, overflow

SITE = Path(__file__).resolve().parents[2] / "build" / "docs" / "html"
PAGES = (
    "index.html",
    "concepts.html",
    "formulas.html",
    "api.html",
    "generated/api/fastrdm.calc_rdm.html",
    "generated/gallery/index.html",
)

pytestmark = pytest.mark.skipif(
    not (SITE / "index.html").is_file(), reason=f"no site in {SITE}; make docs builds it"
)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_serious_fault(name, browser):
    assert (SITE / name).is_file(), f"the site has no {name}; name another page in this test"
    found = {}
    for scheme, size in (("light", DESKTOP), ("dark", PHONE)):
        with opened(browser, SITE / name, size, color_scheme=scheme) as (page, seen):
            page.wait_for_load_state()
            found[scheme] = [*faults(page), *seen.anything]
            if overflow(page) > 0:
                found[scheme].append(f"{overflow(page)} pixels too wide for {size[0]}")
    assert found == {"light": [], "dark": []}
