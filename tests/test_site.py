"""The published site in a real browser, with no way out of 127.0.0.1."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("asv", reason="asv is not installed")

import browser as browsers
import synthetic_results

ROOT = Path(__file__).resolve().parents[1]
MACHINES = [machine["machine"] for machine in synthetic_results.machines(3)]
H200, TWO_CORE, HOSTILE = MACHINES
CALL = "call_latency.CallLatency.track_call"
KERNEL = "kernel_time.KernelTime.track_seed"
ERROR = "accuracy.Accuracy.track_relative_rms_error"
COMMITS = 6


def publish(folder: Path) -> str:
    """Run ``asv publish`` as a user does; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "asv", "--config", str(folder / "asv.conf.json"), "publish"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "record"
    synthetic_results.write_results(folder, COMMITS, len(MACHINES), None)
    publish(folder)
    return folder


@pytest.fixture(scope="module")
def address(published):
    with browsers.serve(published / "html") as url:
        yield url


@pytest.fixture(scope="module")
def chromium():
    with browsers.launch() as browser:
        yield browser


@pytest.fixture
def context(chromium):
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    yield context
    context.close()


@pytest.fixture
def watch(context, address):
    """Fail the test if its page left 127.0.0.1, lost a request or wrote to the console."""
    watch = browsers.Watch(context, address)
    yield watch
    assert watch.wrong == []


@pytest.fixture
def page(watch):
    return watch.page


def open_front(page, address, machine=H200, at=None):
    query = "" if machine is None else f"#machine={machine}" + (f"&at={at}" if at else "")
    page.goto("about:blank")
    page.goto(address + query)
    browsers.wait_until(page, browsers.READY)


def git(published, *arguments):
    command = ["git", "-C", str(published / "repository"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def stored(published, machine, name, *values):
    """Return a value of the newest commit as asv stored it: read here with json alone."""
    last = git(published, "rev-parse", "main")
    for path in (published / "results").glob(f"*/{last[:8]}-*.json"):
        content = json.loads(path.read_text())
        if content["params"]["machine"] == machine:
            columns = dict(zip(content["result_columns"], content["results"][name], strict=False))
            index = 0
            for value, known in zip(values, columns["params"], strict=True):
                index = index * len(known) + known.index(repr(value))
            return columns["result"][index]
    raise AssertionError(f"no result of {machine}")


def row(page, section, *texts):
    """The one row of a section's table that holds all these texts as whole cells."""
    rows = page.locator(f"#{section} tbody tr")
    for text in texts:
        exact = re.compile(f"^{re.escape(text)}$")
        rows = rows.filter(has=page.locator("th, td").filter(has_text=exact))
    assert rows.count() == 1
    return rows


def wait_for_history(page, title):
    readout = "document.querySelector('#history .readout').textContent"
    browsers.wait_until(page, f"{readout}.includes({json.dumps(title)})")


def cells(line):
    return [text.strip() for text in line.locator("th, td").all_inner_texts()]


@pytest.mark.parametrize("machine", MACHINES)
def test_front_page_opens_clean(page, address, machine):
    open_front(page, address, machine)
    pressed = page.locator("#machines button[aria-pressed=true]")
    assert pressed.inner_text().startswith(machine)
    page.wait_for_selector("#history canvas")
    page.wait_for_load_state("networkidle")


@pytest.mark.parametrize(
    ("place", "selector"),
    [
        ("#/", "#summarygrid-display .benchmark-container"),
        ("#/summarylist", "#summarylist-body tbody tr"),
        ("#/regressions", "#regressions-body tbody tr"),
        (f"#{CALL}", "#main-graph canvas"),
    ],
)
def test_asv_pages_open_clean(page, address, place, selector):
    page.goto(f"{address}asv.html{place}")
    page.wait_for_selector(selector)
    page.wait_for_load_state("networkidle")


def test_pages_lead_to_each_other(page, address):
    open_front(page, address)
    page.get_by_role("link", name="Regressions").click()
    page.wait_for_selector("#regressions-body tbody tr")
    page.get_by_role("link", name="CUDA vs Triton").click()
    browsers.wait_until(page, browsers.READY)


def test_addresses_of_asv_front_page_still_lead_to_it(page, address):
    page.goto(f"{address}index.html#/regressions")
    page.wait_for_url("**/asv.html#/regressions")
    page.wait_for_selector("#regressions-body tbody tr")


def test_table_shows_the_stored_numbers_and_their_ratio(page, address, published):
    open_front(page, address)
    values = [
        stored(published, H200, CALL, backend, 32, 128, "int8") for backend in ("cuda", "triton")
    ]
    kernel = [
        stored(published, H200, KERNEL, backend, "cold", 32, 128, "int8")
        for backend in ("cuda", "triton")
    ]
    shown = cells(row(page, "speedup", "32 × 128", "128", "int8"))
    assert shown[3:9] == [
        f"{1e6 * values[0]:.2f}", f"{1e6 * values[1]:.1f}", f"×{values[1] / values[0]:.2f}",
        f"{1e6 * kernel[0]:.3f}", f"{1e6 * kernel[1]:.2f}", f"×{kernel[1] / kernel[0]:.2f}",
    ]  # fmt: skip
    assert page.locator("#speedup tbody tr").count() == 30


def test_hot_kernel_times_are_other_numbers(page, address, published):
    open_front(page, address)
    page.locator("#speedup select").select_option("hot")
    hot = stored(published, H200, KERNEL, "cuda", "hot", 16, 64, "fp8_row_float32")
    shown = cells(row(page, "speedup", "16 × 512", "64", "fp8_row_float32"))
    assert shown[6] == f"{1e6 * hot:.3f}"


@pytest.mark.parametrize(
    ("format_name", "scale"), [("fp8_row_float32", 4), ("fp8_column_ue8m0", 1)]
)
def test_bandwidth_is_derived_from_the_bytes(page, address, published, format_name, scale):
    open_front(page, address)
    page.locator("#bandwidth select").nth(1).select_option(format_name)
    time = stored(published, H200, "kernel_time.KernelTime.track_serving", "cuda", "cold", 8192,
                  7168, 128, format_name)  # fmt: skip
    ratio = stored(published, H200, "copy_distance.DistanceToCopy.track_serving", "cuda", 8192,
                   7168, 128, format_name)  # fmt: skip
    moved = 8192 * 7168 * (2 + 1) + 8192 * 7168 // 128 * scale
    shown = cells(row(page, "bandwidth", "8192 × 7168"))
    assert shown[1:4] == [
        f"{1e6 * time:.1f}", f"{moved / time / 1e9:,.0f}", f"{100 / ratio:.0f} %",
    ]  # fmt: skip


def test_footprint_is_exact_and_says_what_was_before(page, address):
    open_front(page, address)
    assert "1,859,408" in page.locator("#footprint").inner_text()
    assert cells(row(page, "footprint", "quantize<128, row>"))[1] == "42 (was 40)"


def test_what_was_not_measured_is_said_not_tabulated(context, published, tmp_path):
    # The same machine's results without the times: a run of one benchmark, say.
    folder = Path(shutil.copytree(published, tmp_path / "record"))
    shutil.rmtree(folder / "html")
    for path in (folder / "results").glob("*/*-*.json"):
        content = json.loads(path.read_text())
        content["results"] = {ERROR: content["results"][ERROR]}
        path.write_text(json.dumps(content))
    publish(folder)
    with browsers.serve(folder / "html") as address:
        watch = browsers.Watch(context, address)
        open_front(watch.page, address)
        assert "not measured at this commit" in watch.page.locator("#speedup").inner_text()
        assert watch.page.locator("#speedup table").count() == 0
        assert watch.page.locator("#accuracy tbody tr").count() == 10
        assert watch.wrong == []


def test_without_results_the_page_says_so(context, published, tmp_path):
    folder = Path(shutil.copytree(published, tmp_path / "record"))
    shutil.rmtree(folder / "html")
    for path in (folder / "results").glob("*/*-*.json"):
        path.unlink()
    publish(folder)
    with browsers.serve(folder / "html") as address:
        watch = browsers.Watch(context, address)
        open_front(watch.page, address)
        assert "No results of main's commits" in watch.page.locator("#sections").inner_text()
        assert watch.wrong == []


def test_accuracy_is_shown_in_decibel_too(page, address, published):
    open_front(page, address)
    error = stored(published, H200, ERROR, "normal", 64, "int8")
    shown = cells(row(page, "accuracy", "int8", "64"))
    assert shown[2:4] == [f"{error:#.3g}", f"{-20 * math.log10(error):.1f} dB"]
    identity = cells(row(page, "identity", "CUDA"))
    assert identity[1:4] == ["30 of 30", "0", "0"]


@pytest.mark.parametrize(
    ("series", "verdict"),
    [
        ("Call latency: cuda, 64, 128, int8", "slower"),
        ("Call latency: cuda, 64, 64, int8", "faster"),
        ("Kernel time, table's shapes: triton, cold, 32, 64, int8", "undecided"),
        ("Kernel time, table's shapes: triton, cold, 16, 64, int8", "same"),
        ("footprint.Kernels.track_registers: quantize<128, row>", "worse"),
        ("Call latency: cuda, 16, 64, int8", "failed"),
    ],
)
def test_changes_have_a_verdict(page, address, series, verdict):
    open_front(page, address)
    if verdict == "same":
        for name in ("failed", "slower", "faster", "undecided", "same"):
            page.locator("#changes button[aria-pressed]", has_text=name).click()
        while (more := page.get_by_text("Show more")).count():
            more.click()
    shown = cells(row(page, "changes", series))
    assert shown[5] == verdict


def test_failed_and_not_applicable_say_so(page, address):
    open_front(page, address)
    line = row(page, "speedup", "16 × 512", "64", "int8")
    assert cells(line)[3:6] == ["failed", "failed", "–"]
    open_front(page, address, TWO_CORE)
    assert "this machine has no GPU" in page.locator("#speedup p").inner_text()
    assert "no GPU on this machine" in row(page, "identity", "CUDA").inner_text()
    assert page.locator("#bandwidth").count() == 0


@pytest.mark.parametrize("machine", MACHINES)
def test_cell_leads_to_its_graph(page, address, published, machine):
    backend = "cpu" if machine == TWO_CORE else "cuda"
    open_front(page, address, machine)
    row(page, "speedup", "32 × 128", "128", "int8").locator("td a").first.click()
    page.wait_for_selector("#main-graph canvas")
    browsers.wait_until(page, "jQuery('#main-graph').data('plot')?.getData().length === 1")
    points = page.evaluate("jQuery('#main-graph').data('plot').getData()[0].data")
    assert len(points) == COMMITS
    assert points[-1][1] == stored(published, machine, CALL, backend, 32, 128, "int8")
    # Something other than the background is painted.
    assert page.evaluate("""() => {
        const canvas = document.querySelector('#main-graph canvas');
        const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return new Set(new Uint32Array(pixels.data.buffer)).size > 2;
    }""")


def test_commands_of_a_cell_select_exactly_it(page, address, published):
    open_front(page, address)
    row(page, "speedup", "32 × 128", "128", "int8").get_by_role("button").click()
    words = shlex.split(page.locator("dialog code").nth(1).inner_text())
    assert words[:4] == ["asv", "run", "--dry-run", "--bench"]
    benchmarks = json.loads((published / "results" / "benchmarks.json").read_text())
    entries = [
        f"{name}({', '.join(values)})"
        for name, benchmark in benchmarks.items() if name != "version"
        for values in itertools.product(*benchmark["params"])
    ]  # fmt: skip
    matching = [entry for entry in entries if re.search(words[4], entry)]
    assert matching == [f"{CALL}('cuda', 32, 128, 'int8')"]
    assert git(published, "rev-list", words[5]) == git(published, "rev-parse", "main")


def test_copy_button_copies_the_command(context, page, address):
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address.rstrip("/"))
    open_front(page, address)
    row(page, "speedup", "32 × 128", "128", "int8").get_by_role("button").click()
    page.locator("dialog").get_by_role("button", name="Copy").nth(1).click()
    page.locator("dialog").get_by_role("button", name="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator("dialog code").nth(1).inner_text()


def test_contents_lead_to_their_sections(page, address):
    open_front(page, address)
    page.locator("#contents").get_by_role("link", name="What changed").click()
    browsers.wait_until(page, "document.activeElement.id === 'changes-title'")
    assert page.evaluate("""() => {
        const top = document.activeElement.getBoundingClientRect().top;
        return top >= document.querySelector('.top').offsetHeight && top < innerHeight;
    }""")


def test_table_command_is_one_that_the_script_understands(page, address):
    open_front(page, address)
    row(page, "speedup", "32 × 128", "128", "int8").get_by_role("button").click()
    table = page.locator("dialog code").first.inner_text()
    script, *arguments = shlex.split(table)[1:]
    spec = importlib.util.spec_from_file_location("table", ROOT / script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (workload,) = module.parse(arguments).workloads
    assert (workload.tokens, workload.hidden, workload.group_size, workload.dtype) == (
        32, 128, 128, "int8",
    )  # fmt: skip


def test_history_draws_the_series_and_lists_its_numbers(page, address, published):
    open_front(page, address)
    row(page, "speedup", "16 × 512", "64", "int8").get_by_role("button").click()
    page.locator("dialog").get_by_role("button", name="History").first.click()
    wait_for_history(page, "Call latency, tokens 16, group 64, format int8")
    page.locator("#history summary").click()
    page.wait_for_selector("#history details tbody tr")
    lines = page.locator("#history details tbody tr")
    assert lines.count() == COMMITS
    assert cells(lines.first)[1:] == ["failed"] * 4
    assert cells(lines.nth(1))[1].endswith("µs")
    page.locator("#history select").first.select_option("footprint.Startup.track_import")
    wait_for_history(page, "footprint.Startup.track_import")
    value = stored(published, H200, "footprint.Startup.track_import")
    assert cells(lines.first)[1] == f"{value:.2f} s"


def test_history_paints_an_interval_band(page, address):
    open_front(page, address)
    page.wait_for_selector("#history canvas")
    page.locator("#history select").nth(2).select_option("32")
    page.locator("#history select").nth(4).select_option("int8")
    wait_for_history(page, "tokens 32, group 64, format int8")
    # A band is the line's colour at 22 % over the card: count pixels that are neither, nor grey.
    tinted = page.evaluate("""() => {
        const canvas = document.querySelector('#history canvas');
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        let count = 0;
        for (let i = 0; i < data.length; i += 4)
            if (data[i + 3] > 30 && data[i + 3] < 90 && Math.abs(data[i] - data[i + 2]) > 40)
                count++;
        return count;
    }""")
    assert tinted > 5000


def test_markup_in_results_and_commits_is_inert(context, address):
    watch = browsers.Watch(context, address)
    page = watch.page
    open_front(page, address, HOSTILE)
    page.wait_for_load_state("networkidle")
    assert "<script>window.hacked = 1</script>" in page.locator("#machine").inner_text()
    assert page.locator("main script, main img").count() == 0
    assert page.evaluate("window.hacked") is None
    assert watch.wrong == []
    # asv itself puts the machine's facts into a tooltip as markup: its page's policy stops them.
    page.goto(f"{address}asv.html#{CALL}")
    page.wait_for_selector("#main-graph canvas")
    page.get_by_text(HOSTILE, exact=True).hover()
    page.wait_for_selector(".tooltip")
    page.wait_for_timeout(300)
    assert page.evaluate("window.hacked") is None


def test_policy_allows_nothing_from_elsewhere(page, address):
    open_front(page, address)
    policy = page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content")
    sources = {source for rule in policy.split(";") for source in rule.split()[1:]}
    assert sources == {"'none'", "'self'"}
    assert page.locator("script:not([src])").count() == 0


def test_theme_follows_the_system_and_the_button(page, address):
    def background():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    open_front(page, address)
    light = background()
    page.emulate_media(color_scheme="dark")
    browsers.wait_until(page, "document.documentElement.dataset.theme === 'dark'")
    assert background() != light
    page.get_by_role("button", name="Switch to the light theme").click()
    assert background() == light
    page.reload()
    browsers.wait_until(page, browsers.READY)
    assert background() == light


@pytest.mark.parametrize("machine", MACHINES)
def test_phone_needs_no_sideways_scrolling(page, address, machine):
    page.set_viewport_size({"width": 390, "height": 844})
    open_front(page, address, machine)
    page.wait_for_selector("#history canvas")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    row(page, "speedup", "32 × 128", "128", "int8").get_by_role("button").click()
    width = page.locator("dialog").bounding_box()["width"]
    assert width < 390
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= width


def test_keyboard_alone_is_enough(page, address):
    focused = "document.activeElement"
    open_front(page, address)
    page.keyboard.press("Tab")
    assert page.evaluate(f"{focused}.textContent") == "Skip to the content"
    outline = page.evaluate(f"getComputedStyle({focused}).outlineStyle")
    assert outline == "solid"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(f"({focused}.ariaLabel || '').startsWith('Details and commands')"):
            break
    else:
        pytest.fail("no details button within 40 tabs")
    opener = page.evaluate(f"{focused}.ariaLabel")
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('dialog').open")
    page.keyboard.press("Escape")
    assert not page.evaluate("document.querySelector('dialog').open")
    assert page.evaluate(f"{focused}.ariaLabel") == opener


def test_choosing_a_machine_changes_the_address(page, address):
    open_front(page, address, None)
    page.get_by_role("button", name=TWO_CORE).click()
    assert page.url.endswith(f"#machine={TWO_CORE}")
    page.go_back()
    browsers.wait_until(
        page,
        "document.querySelector('#machines [aria-pressed=true]').textContent.startsWith('h200')",
    )


def test_opens_from_a_file(page, published):
    page.goto((published / "html" / "index.html").as_uri())
    browsers.wait_until(page, browsers.READY)
    page.wait_for_selector("#history canvas")
