"""What the pages show is what is stored."""

from __future__ import annotations

import itertools
import json
import math
import re

import browser as browsers
import pytest
from pages import (
    CALL,
    COMMITS,
    ERROR,
    H200,
    KERNEL,
    MACHINES,
    ROOT,
    TWO_CORE,
    cells,
    git,
    open_front,
    row,
    stored,
)


def test_table_shows_the_stored_numbers_and_their_ratio(page, address, published):
    open_front(page, address)
    values = [
        stored(published, H200, CALL, backend, 32, 128, "int8") for backend in ("cuda", "triton")
    ]
    kernel = [
        stored(published, H200, KERNEL, backend, "produced", 32, 128, "int8")
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


def test_bandwidth_is_derived_from_the_bytes(page, address, published):
    open_front(page, address)
    copy = "copy_distance.DistanceToCopy.track_default_shapes"
    formats = ("fp8_row_float32", 4), ("fp8_column_ue8m0", 1)
    for (format_name, scale), state in itertools.product(formats, ("produced", "cold")):
        for place, value in enumerate(("64", format_name, state)):
            page.locator("#default-bandwidth select").nth(place).select_option(value)
        time = stored(published, H200, KERNEL, "cuda", state, 64, 64, format_name)
        ratio = stored(published, H200, copy, "cuda", state, 64, 64, format_name)
        moved = 64 * 256 * (2 + 1) + 64 * 256 // 64 * scale
        shown = cells(row(page, "default-bandwidth", "64 × 256"))
        assert float(shown[1]) == pytest.approx(1e6 * time, rel=0.01)
        assert float(shown[2]) == pytest.approx(moved / time / 1e9, rel=0.02)
        assert shown[3] == f"{100 / ratio:.0f} %"
    said = page.locator("#default-bandwidth .note").first.inner_text()
    assert "first table" not in said
    assert "% of copy is above 100 where" in said


def test_serving_shapes_are_of_row_major_float32_scales(page, address, published):
    open_front(page, address)
    time = stored(published, H200, "kernel_time.KernelTime.track_serving_shapes", "cuda",
                  "produced", 8192, 7168)  # fmt: skip
    moved = 8192 * 7168 * (2 + 1) + 8192 * 7168 // 128 * 4
    shown = cells(row(page, "bandwidth", "8192 × 7168"))
    assert shown[1:3] == [f"{1e6 * time:.1f}", f"{moved / time / 1e9:,.0f}"]
    page.locator("#bandwidth select").select_option("cold")
    assert page.locator("#bandwidth select").count() == 1


def test_functions_before_and_beside_the_gemm_have_a_section(page, address, published):
    open_front(page, address)
    form = "norm_residual_8192x7168_cold"
    time, ratio = (
        stored(published, H200, f"beside_gemm.Kernels.track_{what}", "cuda", form)
        for what in ("time", "copy_ratio")
    )
    # x, the residual read and written, q, and the scales of groups of 128.
    moved = 8192 * 7168 * (2 + 4 + 1) + 8192 * 7168 // 128 * 4
    shown = cells(row(page, "beside-gemm", "RMSNorm, residual, 8192 × 7168, cold"))
    assert shown[1:4] == [
        f"{1e6 * time:.1f}", f"{moved / time / 1e9:,.0f}", f"{100 / ratio:.0f} %",
    ]  # fmt: skip
    assert row(page, "beside-gemm", "Blocks, 256 × 2048 × 7168, cold").count() == 1
    assert cells(row(page, "beside-gemm", "norm_residual"))[1:4] == ["0", "3", "0"]
    assert page.locator("#beside-gemm td.worse").all_inner_texts() == ["3"]
    # Without a GPU the bytes alone.
    open_front(page, address, TWO_CORE)
    assert page.locator("#beside-gemm table").count() == 1
    assert cells(row(page, "beside-gemm", "norm_residual"))[1:4] == ["n/a", "n/a", "0"]


def test_footprint_is_exact_and_says_what_was_before(page, address):
    open_front(page, address)
    assert "1,859,408" in page.locator("#footprint").inner_text()
    assert cells(row(page, "footprint", "quantize<128, row>"))[1] == "42 (was 40)"


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
        ("Kernel time, default shapes: cuda, cold, 64 × 256, group 128, int8", "slower"),
        ("Kernel time, default shapes: cuda, cold, 64 × 256, group 64, int8", "faster"),
        ("Kernel time, default shapes: triton, cold, 32 × 128, group 64, int8", "undecided"),
        ("Kernel time, default shapes: triton, cold, 16 × 512, group 64, int8", "same"),
        ("footprint.Kernels.track_registers: quantize<128, row>", "worse"),
        ("Call latency: cuda, 16 × 512, group 64, int8", "failed"),
    ],
)
def test_changes_have_a_verdict(page, address, series, verdict):
    open_front(page, address)
    if verdict == "undecided":
        page.locator("#changes button[aria-pressed]", has_text=verdict).click()
    if verdict == "same":
        for name in ("failed", "slower", "faster", "same"):
            page.locator("#changes button[aria-pressed]", has_text=name).click()
        while (more := page.get_by_text("Show more")).count():
            more.click()
    shown = cells(row(page, "changes", series))
    assert shown[5] == verdict
    assert re.fullmatch(r"any|–|\d(\.\d)? %|\d+ %", shown[4])
    smallest = {"worse": "any", "failed": "–"}.get(verdict) or shown[4].removesuffix(" %")
    # The threshold is the least of what is timed; a larger noise makes it more.
    assert shown[4] == smallest or float(smallest) >= 5
    assert verdict != "undecided" or float(smallest) > 20


def test_ratios_calls_and_the_reference_have_no_verdict(page, address):
    open_front(page, address)
    while (button := page.locator("#changes button[aria-pressed=false]")).count():
        button.first.click()
    while (more := page.get_by_text("Show more")).count():
        more.click()
    shown = {text.partition(":")[0] for text in page.locator("#changes tbody th").all_inner_texts()}
    assert "Kernel time, default shapes" in shown
    assert not [name for name in shown if "/" in name or "copy" in name.lower()]
    # But one that failed is said.
    calls = page.locator("#changes tbody th", has_text="Call latency:").all_inner_texts()
    assert {text.partition(", ")[2] for text in calls} == {"16 × 512, group 64, int8"}


def test_failed_and_not_applicable_say_so(page, address):
    open_front(page, address)
    line = row(page, "speedup", "16 × 512", "64", "int8")
    assert cells(line)[3:6] == ["failed", "failed", "–"]
    open_front(page, address, TWO_CORE)
    assert "this machine has no GPU" in page.locator("#speedup p").first.inner_text()
    assert "no GPU on this machine" in row(page, "identity", "CUDA").inner_text()
    assert page.locator("#bandwidth").count() == 0


@pytest.mark.parametrize("machine", MACHINES)
def test_details_lead_to_asvs_graph(page, address, published, machine):
    backend = "cpu" if machine == TWO_CORE else "cuda"
    open_front(page, address, machine)
    row(page, "speedup", "32 × 128", "128", "int8").get_by_role("button").click()
    page.locator("dialog").get_by_role("link", name="Graph in asv").first.click()
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


def test_the_canary_says_what_moved(page, address):
    open_front(page, address)
    assert page.locator(".canary").inner_text() == (
        "The canary, cccccccc measured in every run, moved timed.Kernels +5.0 % since 2024-10-04, "
        "3 runs. What changed between its runs: 2024-10-06: driver was 580.95, is 590.1. "
        "Its last run had driver 590.1, the newest commit 580.95."
    )
    open_front(page, address, TWO_CORE)
    assert page.locator(".canary").count() == 0


def test_kernel_names_are_explained(page, address):
    open_front(page, address)
    page.locator("#footprint summary").click()
    known = page.locator("#footprint dl.kernels")
    assert known.locator("dt").all_inner_texts() == ["vector_kernel", "small_kernel"]
    assert "up to 6 elements" in known.inner_text()


def test_every_kernel_of_the_suite_is_explained(page, address):
    families = (ROOT / "benchmarks/suite/kernel_families.txt").read_text().split()
    names = {family.partition("<")[0] for family in families} - {"all"}
    open_front(page, address)
    assert set(page.evaluate("Object.keys(ptgq.KERNELS)")) == names


def test_asvs_regressions_are_of_what_is_judged(page, address):
    page.goto(f"{address}asv.html#/regressions")
    rows = page.locator("#regressions-body tbody tr")
    rows.first.wait_for()
    names = rows.all_inner_texts()
    assert any("kernel_time" in name for name in names)
    assert not [n for n in names if re.search("copy_distance|cuda_vs|call_latency|reference", n)]


def test_a_tile_calls_nothing_slower_that_was_timed_once(page, address, published):
    before = git(published, "rev-parse", "main^")[:8]
    open_front(page, address)
    tiles = page.locator(".tile").all_inner_texts()
    # 2 registers more, and the failed calls of four backends.
    assert f"5\nfailed or, counted, worse since {before}, the commit before" in tiles
    (timed,) = (tile for tile in tiles if "to confirm by nox -s compare" in tile)
    assert int(timed.split()[0]) > 0
    assert not [tile for tile in tiles if "slower" in tile]
    # What no verdict is, or none yet, is folded away.
    shown = set(page.locator("#changes tbody td.text").all_inner_texts())
    assert shown <= {"failed", "slower", "faster", "worse", "better"}


def test_a_change_that_is_called_does_not_read_as_none(page, address):
    open_front(page, address)
    texts = page.evaluate("[1.5, 0.5, 1.0004, 1 - 2e-7, 1].map(format.change)")
    assert texts == ["+50.0 %", "−50.0 %", "+0.04 %", "−0.00002 %", "+0.0 %"]


def test_a_time_that_its_neighbours_contradict_is_doubtful(context, address):
    page = context.new_page()
    name = "cpu_time.CpuTime.track_call"
    row_of = {"backend": "cpu", "tokens": "128", "group": "128", "format": "fp8_row_float32"}

    def answer(route):
        # Threads that waited for a CPU: 8 ms, where 8 times the work takes a twentieth.
        text = (
            route.fetch().text()
            + f""";(() => {{
            const {{ cells }} = ptgq.front.machines.find(m => m.params.machine === "{TWO_CORE}");
            window.waited = () => cells["{name}"][ptgq.index("{name}", {json.dumps(row_of)})][0] =
                [8e-3, 7.9e-3, 8.1e-3];
        }})();"""
        )
        route.fulfill(body=text, content_type="text/javascript")

    page.route("**/data/front.js*", answer)
    page.route("**/js/address.js*", lambda route: route.fulfill(
        body=f"waited();{route.fetch().text()}", content_type="text/javascript"))  # fmt: skip
    open_front(page, address, TWO_CORE)
    shown = row(page, "cpu", "128 × 7168")
    assert page.locator("#cpu .suspect").count() == 1
    assert "8,000?" in shown.inner_text()
    assert "1 of these 100 times are marked" in page.locator("#cpu .suspects").inner_text()
    shown.get_by_role("button").click()
    assert "Doubtful: " in page.locator("dialog .suspects").inner_text()
    # Nothing is said where nothing is wrong.
    open_front(page, address, H200)
    assert page.locator(".suspect, .suspects").count() == 0
