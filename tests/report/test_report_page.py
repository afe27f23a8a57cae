"""The report in a browser: sorting, filters, linked choices, the keyboard, colours, small screens, print, faults."""

import re
import time

import made_up_store
import numpy as np
import pytest
from browser import DESKTOP, PHONE, faults, opened, overflow
from PIL import Image

from fastrdm.cli import main
from fastrdm.cli.sample import write_sample
from fastrdm.report import write_report
from fastrdm.scoring import read_results

pytest.importorskip("altair", reason="reports need Altair")
pytest.importorskip("vl_convert", reason="reports need vl-convert")

MARKUP = "<img src=x onerror=alert(1)>"
LAYERS = ("conv1", "conv2", "conv10", MARKUP, "[bold]$x_y$")
MEGABYTE = 1_000_000


def checkpoints():
    """Two runs of 20 epochs, and one with markup in its name and its label."""
    found = {
        f"runs/net{seed}/epoch{epoch:02d}.pth": {"epoch": epoch, "seed": seed, "note": "plain"}
        for seed in (1, 2)
        for epoch in range(20)
    }
    return {**found, f"runs/{MARKUP}.pth": {"epoch": 3, "seed": 3, "note": MARKUP}}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "scores.db"
    made_up_store.write(path, checkpoints(), LAYERS, conditions=8)
    return made_up_store.fail(path, f"runs/broken{MARKUP}.pth", f"not a file of {MARKUP}")


@pytest.fixture(scope="module")
def report(store):
    return write_report(store, store.with_suffix(".html"))


@pytest.fixture(scope="module")
def percents(store):
    """Path → layer → region → percent of the noise ceiling."""
    found = {}
    for r in read_results(store):
        found.setdefault(r.checkpoint, {}).setdefault(r.layer, {})[r.region] = r.percent_nc
    return found


@pytest.fixture
def page(browser, report):
    """The report in a window of a desktop; it asks for nothing, shows no dialog and has no error."""
    with opened(browser, report) as (page, seen):
        drawn(page)
        yield page
        assert not seen.anything


def drawn(page):
    page.locator("body[data-drawn]").wait_for(state="attached", timeout=60_000)


def act(page, action):
    """Do something that chooses a checkpoint or a layer, and wait until the page shows it."""
    page.evaluate("delete document.body.dataset.drawn")
    action()
    drawn(page)


def has_rows(page, n, table="#table"):
    expect = pytest.importorskip("playwright.sync_api").expect
    expect(page.locator(f"{table} tbody tr")).to_have_count(n)


def column(page, number):
    """The texts of a column of the table of checkpoints, without the small notes."""
    return page.eval_on_selector_all(
        "#table tbody tr",
        "(rows, k) => rows.map((row) => {"
        "  const cell = row.cells[k].cloneNode(true);"
        "  cell.querySelectorAll('small').forEach((note) => note.remove());"
        "  return cell.textContent; })",
        number,
    )


def headings(page):
    return [text.split("\n")[0] for text in page.locator("#table thead th").all_inner_texts()]


def all_rows(page, number):
    """A column through all pages of the table."""
    found = column(page, number)
    while page.locator("#next").is_enabled():
        page.locator("#next").click()
        found += column(page, number)
    return found


def best(percents, path, region):
    return max(of[region] for of in percents[path].values())


def test_columns_sort_in_both_directions(page, percents):
    evc = headings(page).index("EVC")
    button = page.locator("#table thead th").nth(evc).get_by_role("button")
    expected = sorted((best(percents, path, "evc") for path in percents), reverse=True)
    # The best checkpoints of one region are first.
    button.click()
    if page.locator("#table thead th").nth(evc).get_attribute("aria-sort") != "descending":
        button.click()
    assert all_rows(page, evc) == [f"{value:.1f}" for value in expected]
    button.click()
    assert page.locator("#live").inner_text() == "Sorted by EVC, ascending."
    assert page.locator("#table thead th").nth(evc).get_attribute("aria-sort") == "ascending"
    assert all_rows(page, evc) == [f"{value:.1f}" for value in expected[::-1]]
    assert page.locator("[aria-sort=ascending], [aria-sort=descending]").count() == 1


def test_names_sort_by_their_numbers(page):
    page.locator("#table thead th button").first.click()
    names = all_rows(page, 0)
    plain = [name for name in names if "net" in name]
    assert plain == sorted(plain) and len(names) == 41


def test_a_filter_has_words_and_conditions(page):
    filter_ = page.locator("#filter")
    names = list(checkpoints())
    for wanted, kept in (
        ("net2", [name for name in names if "net2" in name]),
        ("epoch>=18", [name for name in names if re.search("epoch1[89]", name)]),
        ("epoch>=18 seed=1", ["runs/net1/epoch18.pth", "runs/net1/epoch19.pth"]),
        ("note!=plain", [f"runs/{MARKUP}.pth"]),
        ("nothing like it", []),
    ):
        filter_.fill(wanted)
        has_rows(page, min(25, len(kept)))
        shown = {name.removeprefix("runs/") for name in all_rows(page, 0)}
        assert shown == {name.removeprefix("runs/") for name in kept}
        assert f"{len(kept)} checkpoint" in page.locator("#table-caption").inner_text()
    filter_.fill("")
    has_rows(page, 25)


def choose(page, name):
    act(page, lambda: page.locator("#table tbody button", has_text=name).first.click())


def test_a_checkpoint_shows_its_layers_in_every_part(page, percents):
    page.locator("#filter").fill("net1/epoch07")
    has_rows(page, 1)
    choose(page, "epoch07")
    assert page.locator("#checkpoint-title").inner_text() == "runs/net1/epoch07.pth"
    assert page.locator("#table tr.chosen button").get_attribute("aria-pressed") == "true"
    rows = page.locator("#layers tbody tr")
    shown = dict(zip(rows.locator("th").all_inner_texts(), rows.all(), strict=True))
    assert tuple(shown) == LAYERS
    head = page.locator("#layers thead th").all_inner_texts()
    for layer, row in shown.items():
        cells = row.locator("td").all_inner_texts()
        for name, cell in zip(head[1:], cells, strict=True):
            value = percents["runs/net1/epoch07.pth"][layer][name.split()[0].lower()]
            # The interval is below the number.
            assert cell.split()[0] == f"{value:.1f}" and "[" in cell
    assert "net1/epoch07.pth" in page.locator("#live").inner_text()
    assert page.locator("#layer-charts .chart:visible").count() == 2
    assert page.locator("#layer-charts svg").count() == 2
    label = page.locator("#layer-charts .plot").first.get_attribute("aria-label")
    assert "5 layers" in label and "EVC" in label


def test_a_layer_shows_its_rdm(page):
    canvas = page.locator("#rdm-pictures canvas").first
    pictures = []
    for layer in ("conv1", "conv10"):
        button = page.locator("#layers tbody button", has_text=re.compile(f"^{layer}$"))
        act(page, button.click)
        button = page.locator("#layers tbody button", has_text=re.compile(f"^{layer}$"))
        assert button.get_attribute("aria-pressed") == "true"
        assert layer in page.locator("#rdms-title").inner_text()
        pictures.append(canvas.evaluate("(each) => each.toDataURL()"))
        assert canvas.evaluate("(each) => each.width") == 8
    assert pictures[0] != pictures[1]


def test_the_slider_of_epochs_chooses_checkpoints_of_the_run(page):
    page.locator("#filter").fill("net2")
    has_rows(page, 20)
    choose(page, "epoch")
    slider = page.locator("#epoch")
    assert slider.get_attribute("max") == "19"
    act(page, lambda: slider.fill("4"))
    assert page.locator("#checkpoint-title").inner_text() == "runs/net2/epoch04.pth"
    assert page.locator("#epoch-value").inner_text() == "4"
    assert "epoch" in page.locator("#over-epochs-title").inner_text()
    # A click on a point chooses its checkpoint.
    point = page.locator("#epochs-chart .mark-symbol path").first
    # Points of other layers may lie on it.
    act(page, lambda: point.click(force=True))
    assert page.locator("#checkpoint-title").inner_text() != "runs/net2/epoch04.pth"
    # The numbers of the chart as a table.
    page.locator("#over-epochs summary").click()
    has_rows(page, 20, "#epochs-table")
    assert page.locator("#epochs-table tbody th").first.inner_text() == "0"


def focused(page):
    return page.evaluate("document.activeElement.id || document.activeElement.textContent")


def tab_to(page, wanted, most=80):
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("(css) => document.activeElement.matches(css)", wanted):
            return
    raise AssertionError(f"Tab does not reach {wanted}")


def test_everything_works_by_the_keyboard_alone(page):
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the checkpoints"
    page.keyboard.press("Enter")
    assert focused(page) == "checkpoints"
    tab_to(page, "#filter")
    page.keyboard.type("net1 epoch<5")
    has_rows(page, 5)
    tab_to(page, "#table thead th:first-child button")
    page.keyboard.press("Enter")
    assert page.locator("#table thead th").first.get_attribute("aria-sort") == "ascending"
    # The heading keeps the focus, and the focus can be seen.
    assert page.evaluate("document.activeElement.closest('th').ariaSort") == "ascending"
    style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert style != "none"
    tab_to(page, "#table tbody button")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    act(page, lambda: page.keyboard.press("Enter"))
    assert page.locator("#checkpoint-title").inner_text() == "runs/net1/epoch02.pth"
    tab_to(page, "#epoch")
    act(page, lambda: page.keyboard.press("ArrowRight"))
    assert page.locator("#checkpoint-title").inner_text() == "runs/net1/epoch03.pth"
    tab_to(page, "#layers tbody button")
    page.keyboard.press("ArrowDown")
    act(page, lambda: page.keyboard.press("Enter"))
    assert "conv2" in page.locator("#rdms-title").inner_text()
    assert focused(page) == "conv2"
    tab_to(page, "#over-epochs summary")
    page.keyboard.press("Enter")
    assert page.locator("#epochs-table").is_visible()


def test_names_with_markup_stay_text(page):
    page.locator("#filter").fill("seed=3")
    has_rows(page, 1)
    choose(page, MARKUP)
    act(page, page.locator("#layers tbody button", has_text=MARKUP).click)
    assert page.locator("#checkpoint-title").inner_text() == f"runs/{MARKUP}.pth"
    assert MARKUP in page.locator("#rdms-title").inner_text()
    assert MARKUP in page.locator("#layers tbody").inner_text()
    assert MARKUP in page.locator("#checkpoint-facts").inner_text()
    assert MARKUP in page.locator("#live").inner_text()
    assert f"not a file of {MARKUP}" in page.locator("#failures-table").inner_text()
    charts = page.locator("#layer-charts svg").first.evaluate("(each) => each.textContent")
    assert "<img" in charts and "[bold]$x_y$" in charts
    assert page.locator("img").count() == 0 and page.locator("[onerror]").count() == 0


def background(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def luminance(colour):
    return np.mean([int(number) for number in re.findall(r"\d+", colour)[:3]])


def test_colours_follow_the_system_and_the_switch(browser, report):
    with opened(browser, report, color_scheme="dark") as (page, seen):
        drawn(page)
        assert luminance(background(page)) < 50
        found = {}
        for _ in range(3):
            page.locator("#theme").click()
            found[page.locator("#theme").inner_text()] = luminance(background(page))
        assert sorted(found.values())[-1] > 200 and sorted(found.values())[0] < 50
        assert len(found) == 3
        assert not seen.anything


@pytest.mark.parametrize(
    ("size", "scheme"), [(DESKTOP, "dark"), (PHONE, "light")], ids=["desktop", "phone"]
)
def test_no_serious_faults_of_access(browser, report, scheme, size):
    with opened(browser, report, size, color_scheme=scheme) as (page, seen):
        drawn(page)
        page.locator("#filter").fill("net1")
        has_rows(page, 20)
        choose(page, "epoch05")
        page.locator("#over-epochs summary").click()
        assert faults(page) == []
        assert overflow(page) <= 0
        assert not seen.anything


def test_on_a_phone_everything_fits(browser, report, tmp_path):
    with opened(browser, report, PHONE, has_touch=True, is_mobile=True) as (page, _):
        drawn(page)
        act(page, page.locator("#table tbody button").nth(3).tap)
        assert overflow(page) <= 0
        # A tap shows the checkpoint, whose details are below the table.
        assert 0 <= page.locator("#checkpoint-title").bounding_box()["y"] < PHONE[1] / 2
        assert page.locator("#table").evaluate("(each) => each.parentElement.scrollWidth") > 0
        for chart in page.locator("#layer-charts svg").all():
            assert chart.bounding_box()["width"] <= PHONE[0]
        page.screenshot(path=tmp_path / "phone.png", full_page=True)
        assert Image.open(tmp_path / "phone.png").width == PHONE[0]


def test_beside_the_table_or_by_the_keyboard_the_page_stays_where_it_is(browser, report):
    for size, choice in ((DESKTOP, "click"), (PHONE, "press")):
        with opened(browser, report, size) as (page, _):
            drawn(page)
            button = page.locator("#table tbody button").nth(1)
            button.focus()
            before = page.evaluate("scrollY")
            act(page, button.click if choice == "click" else lambda b=button: b.press("Enter"))
            assert page.evaluate("scrollY") == before


def test_print_is_dark_on_white_and_without_controls(browser, report):
    with opened(browser, report, color_scheme="dark") as (page, _):
        drawn(page)
        page.emulate_media(media="print")
        assert luminance(page.evaluate("getComputedStyle(document.body).color")) < 80
        for control in ("#theme", "#filter", "#next", "#epoch", ".skip"):
            assert not page.locator(control).first.is_visible()
        assert page.locator("#layers").is_visible() and page.locator("#facts").is_visible()
        page.emulate_media(media=None)
        assert page.pdf().startswith(b"%PDF")


ROWS_ON_PAPER = (
    "addEventListener('beforeprint', () => { window.printed ="
    " [document.querySelectorAll('#table tbody tr').length, document.getElementById('page').textContent]; })"
)


def test_all_rows_are_printed(page):
    has_rows(page, 25)
    page.evaluate(ROWS_ON_PAPER)
    page.pdf()
    assert page.evaluate("window.printed") == [41, ""]
    has_rows(page, 25)


def test_a_long_table_is_cut_on_paper_and_fits_a_small_screen(browser, large):
    with opened(browser, large, (1280, 800)) as (page, seen):
        drawn(page)
        page.evaluate(f"{ROWS_ON_PAPER}; dispatchEvent(new Event('beforeprint'))")
        rows, note = page.evaluate("window.printed")
        assert rows == 200 and note.startswith("The first 200 of 2,000 checkpoints;")
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        has_rows(page, 25)
        # The regions, of which one sorts the table, and the buttons for pages are in sight.
        edge = page.locator("#checkpoints .wide").bounding_box()
        for name in ("EVC", "V1", "V4", "IT"):
            box = page.locator("#table thead th", has_text=name).bounding_box()
            assert box["x"] + box["width"] <= edge["x"] + edge["width"]
        panel, button = (page.locator(css).bounding_box() for css in ("#checkpoints", "#next"))
        assert panel["height"] <= 800
        assert button["y"] + button["height"] <= panel["y"] + panel["height"]
        assert not seen.anything


def test_layers_without_a_score_keep_their_place_in_the_charts(browser, tmp_path, monkeypatch):
    plain = made_up_store.score_similarities

    def lacking(rho, **options):
        rho[0] = rho[1, 0] = np.nan
        return plain(rho, **options)

    monkeypatch.setattr(made_up_store, "score_similarities", lacking)
    store = made_up_store.write(tmp_path / "s.db", {"a": {}}, ["z", "y", "x"], ["it"])
    with opened(browser, write_report(store, tmp_path / "r.html")) as (page, seen):
        drawn(page)
        labels = page.locator("#layer-charts .role-axis-label text").all_text_contents()
        assert [label for label in labels if label.isalpha()] == ["z", "y", "x"]
        assert not seen.anything


def test_the_policy_forbids_the_network_and_code_from_text(browser, report):
    with opened(browser, report, offline=False) as (page, _):
        refused = page.evaluate(
            "new Promise((done) => {"
            " document.addEventListener('securitypolicyviolation', (each) => done(each.violatedDirective));"
            " fetch('https://example.invalid').catch(() => {}); })"
        )
        assert refused == "connect-src"
        policy = page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content")
    assert "unsafe-eval" not in policy and "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The report of a real sweep of the sample, with RDMs kept, and its study."""
    home = tmp_path_factory.mktemp("swept")
    study = write_sample(home / "study", n_conditions=12, n_subjects=8)
    sweep = ["sweep", study / "network.onnx", "--data", study, "--store", home / "scores.db"]
    assert main([*map(str, sweep), "--engine", "in-process", "--keep-rdms", "--quiet"]) == 0
    return write_report(home / "scores.db", home / "report.html", data=study)


def test_the_rdm_of_a_layer_is_beside_those_of_the_brain(browser, swept):
    with opened(browser, swept) as (page, seen):
        drawn(page)
        figures = page.locator("#rdm-pictures figure")
        captions = figures.locator("figcaption").all_inner_texts()
        assert len(captions) == 3
        assert any("EVC" in text and "8 subjects" in text for text in captions)
        assert any("IT" in text for text in captions)
        for canvas in figures.locator("canvas").all():
            assert canvas.evaluate("(each) => [each.width, each.height]") == [12, 12]
            pixels = canvas.evaluate(
                "(c) => [...c.getContext('2d').getImageData(0, 0, 12, 12).data]"
            )
            image = np.array(pixels).reshape(12, 12, 4)
            np.testing.assert_array_equal(image, image.transpose(1, 0, 2))
            assert len(np.unique(image.reshape(-1, 4), axis=0)) > 30
        assert "SYNTHETIC" in page.locator("header").inner_text().upper()
        assert not seen.anything


def small(path, **options):
    return made_up_store.write(path, **{"checkpoints": {"a.pth": {}}, "layers": ["fc"], **options})


CASES = {
    "one checkpoint, layer and region": lambda path: small(path, regions=["evc"]),
    "one subject": lambda path: small(path, subjects=1),
    "failures alone": lambda path: made_up_store.fail(path, "bad.pth"),
    "long names": lambda path: small(
        path, checkpoints={"x" * 3000: {}}, layers=["y" * 500, "z " * 400]
    ),
    "labels that some lack": lambda path: small(
        path, checkpoints={"a": {"epoch": 1}, "b": {"lr": "0.1"}, "c": {"epoch": "x"}}
    ),
    "words of JavaScript": lambda path: small(
        path,
        checkpoints={"__proto__": {"constructor": 1}, "toString": {"__proto__": 2}},
        layers=["__proto__", "constructor", "datum.x", "a.b[0]"],
    ),
    "many regions": lambda path: small(path, regions=[f"r{i}" for i in range(20)]),
}


@pytest.mark.parametrize("case", CASES)
def test_other_stores_have_a_page_without_errors(case, browser, tmp_path):
    store = CASES[case](tmp_path / "s.db")
    output = write_report(store, tmp_path / "report.html")
    with opened(browser, output, PHONE) as (page, seen):
        page.wait_for_load_state()
        if case != "failures alone":
            drawn(page)
        assert page.locator("h1").inner_text()
        assert overflow(page) <= 0
        assert not seen.anything


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The report of 2,000 checkpoints × 11 layers × 4 regions, with RDMs of 92 images for some of them."""
    path = tmp_path_factory.mktemp("large") / "scores.db"
    names = {
        f"runs/net{run:02d}/epoch{epoch:03d}.pth": {"epoch": epoch, "seed": run}
        for run in range(20)
        for epoch in range(100)
    }
    layers = [f"layer{k}" for k in range(1, 12)]
    made_up_store.write(path, names, layers, ("evc", "v1", "v4", "it"))
    return write_report(path, path.with_suffix(".html"))


def test_2000_checkpoints_stay_small_and_answer_quickly(browser, large, capsys):
    size = large.stat().st_size
    assert size < 10 * MEGABYTE
    with opened(browser, large) as (page, seen):
        start = time.perf_counter()
        drawn(page)
        times = {"open": time.perf_counter() - start}
        actions = {
            "checkpoint": "document.querySelectorAll('#table tbody button')[K].click()",
            "layer": "document.querySelectorAll('#layers tbody button')[K].click()",
            "epoch": "{ const s = document.getElementById('epoch'); s.value = 10 + K;"
            " s.dispatchEvent(new Event('input', {bubbles: true})); }",
        }
        for name, code in actions.items():
            times[name] = np.median([timed(page, code.replace("K", str(k))) for k in (1, 2, 3)])
        times["sort"] = timed(
            page, "document.querySelectorAll('#table thead button')[1].click()", False
        )
        assert page.locator("#table tbody tr").count() == 25
        assert not seen.anything
    with capsys.disabled():
        print(
            f"\n2,000 checkpoints × 11 layers × 4 regions: {size / MEGABYTE:.1f} MB; "
            + ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in times.items())
        )


def timed(page, code, draws=True):
    """Seconds from an action to the frame that shows its result."""
    wait = "while (document.body.dataset.drawn === undefined) await frame();" if draws else ""
    return (
        page.evaluate(
            "async () => {"
            " const frame = () => new Promise(requestAnimationFrame);"
            " await frame(); delete document.body.dataset.drawn;"
            f" const start = performance.now(); {code}; {wait} await frame();"
            " return performance.now() - start; }"
        )
        / 1000
    )
