"""Which implementation: who is fastest for a shape, and whether its bytes are right."""

from __future__ import annotations

import re

import browser as browsers
import pytest
from pages import H200, HOSTILE, TWO_CORE, cells, open_front, stored
from synthetic_peers import FACTORS, KNOWN

TIME = "peers.Peers.track_serving_shapes"
MASKED = "peers.Peers.track_masked_rows"


def choose(page, label, value):
    labels = page.locator("#peers label").filter(has_text=re.compile(f"^{label}"))
    labels.locator("select").select_option(value)


def lines(page):
    return [cells(line) for line in page.locator("#peers tbody").first.locator("tr").all()]


@pytest.mark.parametrize("how", ["served", "file"])
def test_all_implementations_of_a_shape_with_what_differs(page, address, published, how):
    place = address if how == "served" else (published / "html" / "index.html").as_uri()
    open_front(page, place)
    found = lines(page)
    # vLLM is not there; the fastest first.
    expected = sorted((name for name in FACTORS if name != "vllm"), key=FACTORS.get)
    assert [line[0].split(" fastest")[0] for line in found] == expected
    by_name = {line[0].split(" fastest")[0]: line for line in found}
    for name, line in by_name.items():
        time = stored(published, H200, TIME, name, "produced", 1024, 7168, "row_float32")
        own = stored(published, H200, TIME, "ptgq", "produced", 1024, 7168, "row_float32")
        assert float(line[2]) == pytest.approx(1e6 * time, rel=6e-3)
        low, high = (float(end) for end in line[3].split(" to "))
        assert low - 0.1 <= 1e6 * time <= high + 0.1
        assert line[4] == f"×{time / own:.2f}"
    # The fastest of all is not exact: another one is marked.
    assert by_name["sglang"][5] == "365,000"
    assert [line[0] for line in found if "fastest exact" in line[0]] == ["ptgq fastest exact"]
    sglang = KNOWN["sglang"]
    assert by_name["sglang"][1] == f"{sglang['version']}, {sglang['measured']}"
    assert by_name["ptgq"][1] == "this commit"
    assert by_name["ptgq"][7] == "31.8 dB"
    assert "Not measured here: vllm (not installed)." in page.locator("#peers").inner_text()


@pytest.mark.parametrize("section", ["peers", "speedup"])
def test_bars_are_as_long_as_their_numbers(page, address, section):
    open_front(page, address)
    bars = page.locator(f"#{section} tbody").first.locator(
        "tr:first-child .bar, tr:last-child .bar"
    )
    found = bars.evaluate_all(
        """cells => cells.map(cell => [cell.firstChild.getBoundingClientRect().width
            / (cell.getBoundingClientRect().width - 16), cell.innerText.replace("×", "")])"""
    )
    shares = [width / float(number.strip()) for width, number in found]
    assert len(shares) > 1
    assert shares == pytest.approx([shares[0]] * len(shares), rel=0.02)


def test_a_map_of_shapes_says_who_is_fastest_and_chooses(page, address):
    open_front(page, address)
    place = page.locator("#peers table.map")
    assert place.locator("thead th").all_inner_texts() == ["Tokens", "hidden 4096", "hidden 7168"]
    first, second = ([b.inner_text() for b in row.locator("button").all()]
                     for row in place.locator("tbody tr").all())  # fmt: skip
    # torch.compile's is faster for one token: ptgq is behind.
    assert [re.sub(r"×[\d.]+", "×", text) for text in first] == ["torch-compile (ptgq ×)"] * 2
    assert second == ["ptgq", "ptgq"]
    place.get_by_role("button", name=re.compile("^torch-compile")).first.click()
    assert "peers.shape=1x4096" in page.url
    assert lines(page)[0][0] == "torch-compile fastest exact"
    assert place.locator("[aria-pressed=true]").count() == 1


def test_all_that_can_not_be_told_from_the_fastest_are_marked(page, address):
    open_front(page, address)
    choose(page, "Format", "int8")
    found = {line[0]: line for line in lines(page)}
    marked = {name for name in found if "fastest exact" in name}
    assert marked == {f"{name} fastest exact?" for name in ("ptgq", "ptgq-triton")}
    ends = [[float(end) for end in found[name][3].split(" to ")] for name in marked]
    assert max(low for low, _ in ends) <= min(high for _, high in ends)
    tied = page.locator("#peers table.map [aria-pressed=true]").inner_text()
    assert sorted(tied.split(" or ")) == ["ptgq", "ptgq-triton"]
    # Apart; one reaches into the fastest's interval; an open end; one that is not exact.
    exact = {"codes": {"value": 0}, "scales": {"value": 0}}
    cases = [
        ([(10, 9, 11), (12, 11.5, 13)], [0]),
        ([(10, 9, 11), (12, 10.5, 13), (12.5, 11.5, 13)], [0, 1]),
        ([(10, None, None), (99, 98, 100)], [0, 1]),
        ([(10, 9, 11), (99, None, None)], [0, 1]),
        ([], []),
    ]
    for times, expected in cases:
        given = [
            {**exact, "number": number, "time": {"value": value, "low": low, "high": high}}
            for number, (value, low, high) in enumerate(times)
        ]
        numbers = page.evaluate("all => ptgq.fastestExact(all).map(one => one.number)", given)
        assert numbers == expected
        wrong = {**(given or [{}])[0], "codes": {"value": 1}, "scales": {"value": 0}, "number": 9}
        wrong["time"] = {"value": 1, "low": 1, "high": 1}
        numbers = page.evaluate(
            "all => ptgq.fastestExact(all).map(one => one.number)", [wrong, *given]
        )
        assert numbers == expected


def test_choices_are_in_the_address(page, address):
    open_front(page, address)
    choose(page, "Time", "cold")
    choose(page, "Function", "silu")
    choose(page, "tokens", "1x7168")
    shown = lines(page)
    for part in ("peers.state=cold", "peers.function=silu", "peers.shape=1x7168"):
        assert part in page.url
    page.reload()
    browsers.wait_until(page, browsers.READY)
    assert lines(page) == shown
    page.go_back()
    browsers.wait_until(page, browsers.READY)
    assert lines(page) != shown
    command = page.locator("#peers code").last.inner_text()
    assert command.startswith("nox -s bench -- --shape ")
    assert command.endswith("--silu --against all")


def test_masked_rows_are_another_form(page, address, published):
    open_front(page, address)
    choose(page, "tokens", "1x4096")
    choose(page, "Function", "masked")
    found = {line[0]: line for line in lines(page)}
    # Those that have none are not there; SGLang's is not exact.
    assert set(found) == {"sglang", "ptgq fastest exact", "ptgq-triton"}
    time = stored(published, H200, MASKED, "ptgq", "routed", "masked")
    assert float(found["ptgq fastest exact"][2]) == pytest.approx(1e6 * time, rel=6e-3)
    assert found["sglang"][5] == "365,000"
    labels = page.locator("#peers label").all_inner_texts()
    assert labels[0].split("\n")[1:] == ["kernel, x hot"]
    assert labels[-1].split("\n") == [
        "Rows that exist", "routed of 32 × 256 × 7168", "full of 32 × 256 × 7168",
    ]  # fmt: skip
    place = page.locator("#peers table.map")
    assert place.locator("thead th").all_inner_texts() == ["Rows that exist", "hidden 7168"]
    assert place.locator("tbody th").all_inner_texts() == ["routed", "full"]
    place.locator("button", has_text="ptgq").nth(1).click()
    assert "peers.function=masked" in page.url
    assert "peers.shape=full" in page.url
    time = stored(published, H200, MASKED, "ptgq", "full", "masked")
    found = {line[0]: line for line in lines(page)}
    assert float(found["ptgq fastest exact"][2]) == pytest.approx(1e6 * time, rel=6e-3)
    command = page.locator("#peers code").last.inner_text()
    assert command == "nox -s track -- main --newest 1 --all --bench peers"
    page.reload()
    browsers.wait_until(page, browsers.READY)
    assert {line[0]: line for line in lines(page)} == found
    # Back to a matrix, what holds is measured again.
    choose(page, "Function", "quant")
    assert page.locator("#peers select").first.input_value() == "produced"


def test_a_machine_without_a_gpu_has_calls(page, address):
    open_front(page, address, TWO_CORE)
    assert page.locator("#peers select").first.locator("option").all_inner_texts() == [
        "call latency"
    ]
    assert {line[0].split(" fastest")[0] for line in lines(page)} == {"ptgq", "torch-compile"}
    assert page.locator("#peers").inner_text().count("--device cpu") == 1


def test_versions_are_text(page, address):
    open_front(page, address, HOSTILE)
    assert page.locator("#peers").count() == 1


def test_what_the_command_says_is_parsed(page, address, load_script):
    open_front(page, address)
    choose(page, "Format", "int8")
    words = page.locator("#peers code").last.inner_text().split()[4:]
    options = load_script("table_arguments", "table_arguments.py").parse(words)
    assert (options.dtypes, options.group_size) == (("int8",), [128])
    assert "sglang" in options.against


def test_the_map_is_sorted_by_how_far_behind(page, address):
    open_front(page, address)
    column = page.locator("#peers table.map thead button").nth(1)
    column.click()
    column.click()
    assert "peers.map.sort=-1" in page.url
    cells_of = page.locator("#peers table.map tbody td:nth-child(2)")
    behind = [float(cell.get_attribute("data-sort")) for cell in cells_of.all()]
    assert len(behind) > 1
    assert behind == sorted(behind, reverse=True)
