"""The history: its plots, by mouse and keys, its numbers and its addresses."""

from __future__ import annotations

import re

import browser as browsers
from pages import (
    CALL,
    COMMITS,
    H200,
    KERNEL,
    TWO_CORE,
    cells,
    git,
    open_front,
    row,
    stored,
    wait_for_history,
)


def test_history_draws_the_series_and_lists_its_numbers(page, address, published):
    open_front(page, address)
    row(page, "speedup", "16 × 512", "64", "int8").get_by_role("button").click()
    page.locator("dialog").get_by_role("button", name="History").first.click()
    wait_for_history(page, "Call latency, 16 × 512, group 64, int8")
    page.locator("#history summary").click()
    page.wait_for_selector("#history details tbody tr")
    lines = page.locator("#history details tbody tr")
    assert lines.count() == COMMITS
    assert cells(lines.first)[1:] == ["failed"] * 4
    assert cells(lines.nth(1))[1].endswith("µs")
    page.locator("#history select").first.select_option("footprint.Startup.track_import")
    wait_for_history(page, "footprint.Startup.track_import")
    value = stored(published, H200, "footprint.Startup.track_import")
    assert cells(lines.first)[1].split("\n")[0] == f"{value:.2f} s"


def test_a_number_leads_to_its_history_by_an_address_that_can_be_sent(page, address):
    open_front(page, address, TWO_CORE)
    row(page, "speedup", "32 × 128", "128", "int8").locator("td a").nth(1).click()
    wait_for_history(page, "Call latency, 32 × 128, group 128, int8")
    sent = page.url
    page.go_back()
    browsers.wait_until(page, "!location.hash.includes('series')")
    # The same from a fresh page, and with another choice.
    page.goto("about:blank")
    page.goto(sent)
    browsers.wait_until(page, browsers.READY)
    wait_for_history(page, "Call latency, 32 × 128, group 128, int8")
    page.locator("#history select").nth(1).select_option("64")
    wait_for_history(page, "Call latency, 64 × 256, group 128, int8")
    page.reload()
    browsers.wait_until(page, browsers.READY)
    wait_for_history(page, "Call latency, 64 × 256, group 128, int8")
    # A kernel's name holds commas.
    name = "footprint.Kernels.track_registers"
    page.locator("#history select").first.select_option(name)
    chosen = page.locator("#history select").nth(1)
    kernel = chosen.locator("option").last.inner_text()
    assert "," in kernel
    chosen.select_option(kernel)
    page.reload()
    browsers.wait_until(page, browsers.READY)
    wait_for_history(page, kernel)
    # What is not there is not shown.
    page.goto(f"{address}#machine={TWO_CORE}&at=history&series={CALL}&value=cuda&value=7")
    browsers.wait_until(page, browsers.READY)


def test_history_paints_an_interval_band(page, address):
    open_front(page, address)
    page.wait_for_selector("#history canvas")
    page.locator("#history select").nth(2).select_option("32")
    page.locator("#history select").nth(4).select_option("int8")
    wait_for_history(page, "32 × 128, group 64, int8")
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


def test_a_plot_is_read_by_keys_with_its_intervals(page, address, published):
    open_front(page, address)
    page.wait_for_selector("#history canvas")
    page.locator("#history [role=img]").focus()
    readout = page.locator("#history .readout")
    page.keyboard.press("End")
    newest = git(published, "rev-parse", "main")[:8]
    number = r"\d[\d.]* µs"
    with_ends = rf"{newest} .*: CUDA {number} \({number} to {number}\), Triton {number} \(.*"
    assert re.fullmatch(with_ends, readout.inner_text())
    for key, commit in (("ArrowLeft", "main^"), ("Home", f"main~{COMMITS - 1}")):
        page.keyboard.press(key)
        assert readout.inner_text().startswith(git(published, "rev-parse", commit)[:8])
    page.keyboard.press("ArrowRight")
    second = git(published, "rev-parse", f"main~{COMMITS - 2}")[:8]
    assert readout.inner_text().startswith(second)


def test_the_historys_numbers_have_intervals_and_full_subjects(page, address, published):
    open_front(page, address)
    page.locator("#history summary").click()
    line = page.locator("#history details tbody tr").first
    line.wait_for()
    value, ends = cells(line)[1].split("\n")
    assert re.fullmatch(r"\d[\d.]* µs to \d[\d.]* µs", ends)
    low, _, _, high, _ = [*ends.split(), ""][:5]
    assert float(low) <= float(value.split()[0]) <= float(high)
    subject = git(published, "log", "-1", "--format=%s", "main")
    assert len(subject) > 60
    assert subject in line.inner_text()


def test_shapes_and_groups_say_which_they_are(page, address):
    open_front(page, address)
    labels = page.locator("#history label")
    page.locator("#history select").first.select_option(
        "kernel_time.KernelTime.track_serving_shapes"
    )
    wait_for_history(page, "1 × 2048")
    assert any(text.startswith("hidden size") for text in labels.all_text_contents())
    page.locator("#history select").first.select_option(KERNEL)
    wait_for_history(page, "group 64")
    found = labels.all_text_contents()
    assert any(text.startswith("tokens × hidden16 × 512") for text in found)
    assert any(text.startswith("group size64") for text in found)
