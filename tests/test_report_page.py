"""The page in a browser: it opens from a disk, filters, drills down, asks for nothing and fits a phone."""

import shutil
from dataclasses import replace

import pytest
from checks.stored_runs import made, plain_cases, result, scaled

from unilossseg.conformance import cases
from unilossseg.conformance.reports import page, reader
from unilossseg.conformance.results import Result
from unilossseg.conformance.verdict import UNSUPPORTED, Verdict

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
HOSTILE = "</script><img src=x onerror=document.title='broken'><script>document.title='broken'</script>"
DESK, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        # Without its sandbox, which root and most containers have not got: it opens this project's own files.
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def results():
    """Enough cases for a second helping, four backends, each status, maps and a hostile message."""
    names = ("numpy", "strict", "torch", "paddle")
    chosen = [case for case in cases.all_cases(["DiceLoss"]) if case.dtype in ("float32", "float64")]
    found = [result(case, name) for case in chosen for name in names]
    for number in range(120):
        found.append(replace(found[0], case=replace(found[0].case, id=f"DiceLoss/made-up/{number}/float32")))
    (square, *_) = plain_cases("MSELoss")
    found += [
        result(square, "numpy"),
        result(square, "strict", spoil=lambda outcome: Verdict(UNSUPPORTED, "it has none", link="https://example.org/")),
        result(square, "torch", spoil=scaled(1.01)),
        result(square, "paddle", spoil=lambda outcome: Verdict("errored", HOSTILE, link="javascript:alert(1)")),
    ]
    (warned, *_) = plain_cases("L1Loss")
    found.append(result(warned, "torch", spoil=scaled(1 + 3 * 2.0**-23), native=lambda outcome: outcome))
    nothing = replace(square, id=f"MSELoss/{HOSTILE}/float32", condition=HOSTILE, parameters={HOSTILE: HOSTILE})
    found += [result(square, "torch", "face", spoil=scaled(float("nan"))), replace(found[0], case=nothing)]
    # Of a worker in another environment.
    return [replace(one, elsewhere=one.backend == "paddle") for one in found]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    place = tmp_path_factory.mktemp("page") / "index.html"
    place.write_text(page.render(reader.parse(made(results()).record())), encoding="utf-8")
    return place


@pytest.fixture
def visit(browser, path):
    """Opens the page; at the end nothing may have been complained of or asked for."""
    pages, complaints, requests = [], [], []

    def go(size=DESK, address=""):
        opened = browser.new_page(viewport=size)
        pages.append(opened)
        opened.set_default_timeout(20_000)
        opened.on("console", lambda message: complaints.append(message.text))
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("request", lambda request: requests.append(request.url))
        opened.goto(f"{path.as_uri()}{address}")
        return opened

    yield go
    titles = {opened.title() for opened in pages}
    for opened in pages:
        opened.close()
    assert complaints == []
    assert {url.partition("#")[0] for url in requests} == {path.as_uri()}
    assert titles == {"UniLossSeg conformance: does not conform"}


def fits(opened):
    """Whether nothing makes the whole page scroll sideways."""
    return opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


def shown(opened):
    return opened.locator("#list > li").count()


def holds(opened, **filters):
    """The filters come to hold these: a link moves them only when the browser tells the page of its new address."""
    for name, value in filters.items():
        opened.wait_for_function("([name, value]) => document.getElementById(name).value === value", arg=[name, value])


def test_it_opens_with_a_matrix_of_symbols(visit):
    opened = visit()
    assert opened.locator(".wide .matrix tbody tr").count() == 3
    row = opened.locator(".wide .matrix tbody tr", has_text="MSELoss").first
    # Of two dtypes one has results, on each of four backends.
    assert [text[0] for text in row.locator(".tag").all_inner_texts()] == ["✓", "○", "✗", "!"]
    assert opened.locator(".environment tr", has_text="settings").count() == 1
    assert fits(opened)


def test_the_list_comes_in_helpings(visit):
    opened = visit()
    assert shown(opened) == 100
    total = int(opened.inner_text("#found").split()[0])
    assert total > 120
    while opened.locator("#more").is_visible():
        opened.click("#more")
    assert shown(opened) == total


def test_it_filters_and_the_address_keeps_the_filter(visit):
    opened = visit()
    opened.fill("#q", "dice ties FLOAT64")
    assert shown(opened) == 2
    opened.select_option("#dtype", "float32")
    assert shown(opened) == 0
    opened.fill("#q", "")
    opened.select_option("#dtype", "")
    opened.select_option("#status", "bad")
    assert shown(opened) == 1
    opened.select_option("#backend", "numpy")
    assert shown(opened) == 0
    opened.select_option("#backend", "paddle")
    again = visit(address=opened.evaluate("location.hash"))
    assert (again.input_value("#backend"), again.input_value("#status"), shown(again)) == ("paddle", "bad", 1)


def test_a_cell_of_the_matrix_leads_to_its_cases(visit):
    opened = visit()
    opened.locator(".wide .matrix a.is-errored").click()
    holds(opened, loss="MSELoss", backend="paddle", dtype="float32")
    opened.locator(".failure a").first.click()
    opened.wait_for_selector(".drill")
    assert shown(opened) == 1
    opened.go_back()
    holds(opened, loss="MSELoss")


@pytest.fixture
def drilled(visit):
    opened = visit(address="#case=MSELoss/paddleseg/plain/float32")
    opened.wait_for_selector(".drill")
    return opened


def test_a_case_shows_parameters_inputs_values_and_the_command(drilled):
    text = drilled.inner_text(".drill")
    assert "logits float32 (2, 3, 4, 5); labels float32 (2, 3, 4, 5)" in text
    assert "unilossseg conformance run --loss MSELoss -k MSELoss/paddleseg/plain/float32 --out conformance-repeat" in text
    row = drilled.locator(".drill tr", has_text="numpy, closed form").inner_text().split("\t")
    assert float(row[4]) == pytest.approx(float(row[5]), rel=1e-5)
    assert "it has none" in text
    assert drilled.locator(".drill a").evaluate_all("links => links.map((link) => link.href)") == ["https://example.org/"]


def test_a_warning_is_marked_found_and_explained(visit):
    opened = visit()
    assert "1 with a warning" in opened.inner_text(".banner")
    row = opened.locator(".wide .matrix tbody tr", has_text="L1Loss").first
    assert [text.split()[0][0] for text in row.locator(".tag").all_inner_texts()] == ["✓"]
    assert row.locator(".mark").inner_text() == "▲"
    opened.select_option("#status", "warned")
    opened.wait_for_selector(".drill")
    assert shown(opened) == 1
    text = opened.inner_text(".drill")
    assert "torch, closed form: warning" in text
    assert "times that of torch.nn.functional.x" in text
    cells = opened.locator(".drill tr", has_text="gradient").first.inner_text().split("\t")
    heads = opened.locator(".drill thead tr").inner_text().split("\t")
    assert cells[heads.index("native")] == "torch.nn.functional.x"
    assert float(cells[heads.index("largest ÷ native")]) > 1


def test_what_differs_has_a_histogram_and_a_heat_map(drilled):
    box = drilled.locator(".errors").first
    # An array of one number has no map: the gradient's alone is shown.
    assert box.locator(".heat").count() == box.locator(".histogram").count() == 1
    assert box.locator(".heat td").count() == 4 * 5
    worst = box.locator("td.worst")
    assert worst.count() == 1
    assert float(worst.inner_text()) > 1
    counts = box.locator(".bars span:nth-child(3n)").all_inner_texts()
    assert sum(map(int, counts)) == 2 * 3 * 4 * 5
    assert drilled.locator(".errors td.worst", has_text="∞").count() == 1


def test_a_case_closes_again(drilled):
    drilled.click(".open")
    assert drilled.locator(".drill").count() == 0
    assert drilled.get_attribute(".open", "aria-expanded") == "false"


def test_texts_of_a_record_stay_texts(drilled, visit):
    assert HOSTILE in drilled.inner_text(".drill")
    opened = visit()
    opened.fill("#q", "onerror")
    opened.wait_for_selector(".drill")  # a single case opens by itself
    assert opened.inner_text(".drill .parameters").count("onerror") == 2
    assert opened.locator("img").count() == 0


def test_the_commands_that_repeat_a_case_are_those_of_the_record(visit):
    opened = visit(DESK, "#case=MSELoss/paddleseg/plain/float32")
    opened.wait_for_selector(".drill")
    commands = opened.locator(".drill pre.repeat").inner_text().splitlines()
    recorded = dict.fromkeys(
        row["repeat"] for row in map(Result.row, results()) if row["case"] == "MSELoss/paddleseg/plain/float32"
    )
    assert commands == list(recorded)
    assert commands[-1].endswith("--backend paddle --worker paddle=PYTHON")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(visit, scheme):
    opened = visit(PHONE)
    opened.emulate_media(color_scheme=scheme)
    assert fits(opened)
    opened.select_option("#status", "bad")
    assert opened.locator(".open").first.bounding_box()["height"] >= 24
    opened.wait_for_selector(".drill")
    assert fits(opened)
    for name in ("#q", "#loss", "#backend", "#dtype", "#status", ".row .tag", ".drill pre.repeat", ".heat"):
        box = opened.locator(name).first.bounding_box()
        assert 0 <= box["x"] < box["x"] + box["width"] <= PHONE["width"], name


def test_a_phone_shows_the_whole_summary_without_a_movement(visit):
    opened = visit(PHONE)
    table = opened.locator(".compact")
    box = table.bounding_box()
    assert 0 <= box["x"] < box["x"] + box["width"] <= PHONE["width"]
    row = table.locator("tbody tr", has_text="MSELoss")
    assert [text[0] for text in row.locator(".tag").all_inner_texts()] == ["✓", "○", "✗", "!"]
    row.locator("a.is-errored").click()
    holds(opened, loss="MSELoss", backend="paddle")
    assert not visit(DESK).locator(".compact").is_visible()


@pytest.mark.parametrize("name", ["Summary matrix", "Numbers", "Environment"])
def test_the_names_of_rows_stay_in_sight(visit, name):
    opened = visit(PHONE, "#case=MSELoss/paddleseg/plain/float32")
    opened.wait_for_selector(".drill")
    table = opened.get_by_role("region", name=name)
    first, second = (table.locator("tbody tr").first.locator(":scope > *").nth(place) for place in (0, 1))
    before = [cell.bounding_box()["x"] for cell in (first, second)]
    move = "box => { box.style.width = '200px'; box.scrollLeft = 60; return box.scrollLeft; }"
    assert table.evaluate(move) == 60
    after = [cell.bounding_box()["x"] for cell in (first, second)]
    assert after[0] == pytest.approx(before[0], abs=1)
    assert after[1] < before[1] - 20


def test_it_works_with_the_keyboard(visit):
    opened = visit(address="#q=MSELoss/paddleseg/plain/float32&status=bad")
    opened.wait_for_selector(".drill")
    opened.focus(".open")
    opened.keyboard.press("Enter")
    assert opened.locator(".drill").count() == 0
    opened.keyboard.press("Enter")
    assert opened.locator(".drill").count() == 1


def test_no_other_script_runs(path, browser):
    """The policy, not only the escaping: a script that got into the page all the same is refused."""
    broken = path.with_name("broken.html")
    broken.write_text(path.read_text(encoding="utf-8").replace("<main>", "<main><script>document.title = 'ran'</script>"))
    opened = browser.new_page()
    complaints = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.goto(broken.as_uri())
    assert opened.title() != "ran"
    assert "Content Security Policy" in complaints[0]
    assert opened.locator("#list > li").count() == 100
    opened.close()


def test_the_summary_needs_no_script(path, browser):
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(path.as_uri())
    assert opened.locator(".matrix .tag").count() > 4
    assert "needs JavaScript" in opened.inner_text("main")
    assert opened.locator("#tools").is_hidden()
    context.close()
