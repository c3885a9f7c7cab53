"""What a reader's own shape takes, and all that is derived from a configuration."""

from __future__ import annotations

import re
import shlex

import browser as browsers
import pytest
from pages import H200, HOSTILE, TWO_CORE, cells, open_front, stored

KERNEL_TIME = "kernel_time.KernelTime"
COPY = "copy_distance.DistanceToCopy"


def place_of(published, address, how):
    return address if how == "served" else (published / "html" / "index.html").as_uri()


def choose(page, label, value):
    labels = page.locator("#shape label").filter(has_text=re.compile(f"^{label}"))
    labels.locator("select").select_option(value)


def type_shape(page, text):
    page.locator("#shape").get_by_label("tokens × hidden").fill(text)
    page.keyboard.press("Enter")


@pytest.mark.parametrize("how", ["served", "file"])
def test_my_shape_is_the_nearest_measured_one_with_all_that_is_known(
    page, address, published, how, load_script
):
    place = place_of(published, address, how)
    open_front(page, place)
    assert page.locator("#sections section").first.get_attribute("id") == "shape"
    type_shape(page, "1000 x 7000")
    choose(page, "x", "cold")
    said = page.locator("#shape .nearest")
    nearest = "1000 × 7000 was not measured: the nearest is "
    # A GPU's machine measured calls of its CPU, too, of other shapes: none hides the other.
    assert said.inner_text().splitlines()[::2] == [
        "The group size 128 does not divide the hidden size 7000, so that there is no such call.",
        f"GPU kernels: {nearest}1023 × 7168.",
        f"CPU calls: {nearest}1024 × 7168.",
    ]
    assert page.locator("#shape tbody td:nth-child(2)").all_inner_texts() == [
        "CUDA", "Triton", "CPU", "Reference",
    ]  # fmt: skip
    line = page.locator("#shape tbody tr").first
    values = 1023, 7168
    time = stored(published, H200, f"{KERNEL_TIME}.track_serving_shapes", "cuda", "cold", *values)
    copy = stored(published, H200, f"{COPY}.track_serving_shapes", "cuda", "cold", *values)
    shown = cells(line)
    moved = 1023 * 7168 * 3 + 1023 * 7168 // 128 * 4
    assert shown[:4] == ["h200", "CUDA", "1023 × 7168", f"{1e6 * time:.2f}"]
    low, high = (float(end) for end in shown[4].split(" to "))
    assert low < 1e6 * time < high
    assert shown[5:7] == [f"{100 / copy:.0f} %", f"{100 * moved / time / 4.8e12:.0f} %"]
    stated = "as NVIDIA states it (NVIDIA H200 Tensor Core GPU datasheet: 4.8 TB/s)"
    assert stated in page.locator("#shape").inner_text()
    line.get_by_role("button").click()
    words = shlex.split(page.locator("dialog code").first.inner_text())
    options = load_script("table_arguments", "table_arguments.py").parse(words[4:])
    (workload,) = load_script("table_rows", "table_rows.py").selected(options)
    assert (workload.tokens, workload.hidden, options.state) == (1023, 7168, "cold")
    page.keyboard.press("Escape")
    # The same from its address; a function that has its own formats; every machine.
    page.reload()
    browsers.wait_until(page, browsers.READY)
    assert "1023 × 7168" in said.inner_text()
    choose(page, "Function", "silu")
    choose(page, "Machines", "all")
    assert "nearest is 1024 × 7168" in said.inner_text()
    machines = page.locator("#shape tbody th").all_inner_texts()
    assert machines.count(H200) == 2
    assert len(set(machines)) == 2
    line.get_by_role("button").click()
    words = shlex.split(page.locator("dialog code").first.inner_text())
    options = load_script("table_arguments", "table_arguments.py").parse(words[4:])
    (workload,) = load_script("table_rows", "table_rows.py").selected(options)
    assert workload.silu_and_mul
    page.keyboard.press("Escape")
    type_shape(page, "many")
    assert page.locator("#shape [role=alert]").inner_text().startswith("Not tokens × hidden: many")


def said_of(page):
    return [line for line in page.locator("#shape .nearest").inner_text().splitlines() if line]


# What a machine measured, made less: KEEP says of which cells a value stays.
LESS = """() => {
    const { cells } = ptgq.front.machines[0];
    const keep = (name, values) => KEEP;
    for (const name of Object.keys(cells)) {
        const kept = (index) => keep(name, ptgq.combination(name, index));
        cells[name] = cells[name].map((stored, index) => kept(index) ? stored : null);
    }
    document.getElementById("sections").replaceChildren(ptgq.shape(0));
}"""
NONE = "fp8_row_float32, group 128 was not measured"
OTHER = f"{NONE} with x produced, so that nothing is shown: x hot and cold was."
NOTHING = f"{NONE} by the benchmarks as they are now, so that nothing is shown."
NEAREST = "1024 × 7168 was not measured: the nearest is 1024 × 4096."


@pytest.mark.parametrize(
    ("how", "keep", "said", "shown"),
    [
        ("served", "!name.startsWith('kernel_time')", NOTHING, 0),
        ("file", "values.state !== 'produced'", OTHER, 0),
        ("file", "values.hidden !== '7168'", NEAREST, 2),
        ("served", "values.backend !== 'cuda'", "1024 × 7168 was measured.", 1),
    ],
    ids=["no kernels", "no such state", "no such shape", "no such backend"],
)  # fmt: skip
def test_what_was_not_measured_is_said(page, address, published, how, keep, said, shown):
    open_front(page, place_of(published, address, how))
    page.evaluate(LESS.replace("KEEP", keep))
    assert said_of(page) == [f"GPU kernels: {said}", "CPU calls: 1024 × 7168 was measured."]
    backends = page.locator("#shape tbody td:nth-child(2)").all_inner_texts()
    assert len({"CUDA", "Triton"} & set(backends)) == shown
    # And how it is measured.
    command = page.locator("#shape .note code")
    assert command.count() == ("not measured" in said)
    if command.count():
        assert command.inner_text() == (
            "nox -s bench -- --shape 1024x7168 --group-size 128 --dtype fp8 --scales row_float32 "
            "--method graph --produced --bandwidth"
        )
    # The page is not what others expect.
    page.goto("about:blank")


def test_formats_that_nobody_measured_can_be_asked_for(page, address):
    open_front(page, address, TWO_CORE)
    choose(page, "Format", "fp8_tma_float32")
    assert said_of(page) == [NOTHING.replace("row", "tma")]
    assert page.locator("#shape table").count() == 0
    choose(page, "Machines", "all")
    found = said_of(page)
    # One line for machines of which the same is said.
    assert f"{H200}, {HOSTILE}: GPU kernels: 1024 × 7168 was measured." in found
    nothing = NOTHING.replace("row", "tma")
    assert f"{H200}, {HOSTILE}, {TWO_CORE}: CPU calls: {nothing}" in found
    assert len(found) == 2
    # An address may ask for what is not there.
    page.goto(f"{address}#machine={H200}&shape.format=fp8_new&shape.state=warm")
    page.reload()
    browsers.wait_until(page, browsers.READY)
    assert said_of(page)[0] == "No format fp8_new here: fp8_row_float32 is shown."
    assert page.locator("#shape select").nth(1).input_value() == "produced"


def test_a_cpu_has_its_own_shapes_and_no_peak(page, address, published):
    open_front(page, address, TWO_CORE)
    type_shape(page, "1024x7168")
    assert page.locator("#shape .nearest").inner_text() == "1024 × 7168 was measured."
    shown = [cells(line) for line in page.locator("#shape tbody tr").all()]
    assert [line[1] for line in shown] == ["CPU", "Reference"]
    assert {line[6] for line in shown} == {"–"}
    assert "as NVIDIA states it" not in page.locator("#shape").inner_text()


def test_formats_are_named_by_their_consumers_and_serving_comes_first(page, address):
    open_front(page, address)
    names = page.locator("#shape").get_by_label("Format").locator("option").all_inner_texts()
    assert "fp8_tma_float32 (deep_gemm_hopper)" in names
    assert {"variants", "functions"} <= set(
        page.locator("#sections section").evaluate_all("all => all.map(one => one.id)")
    )
    ids = page.locator("#sections section").evaluate_all("all => all.map(one => one.id)")
    assert ids.index("bandwidth") < ids.index("variants") < ids.index("speedup")
    assert ids.index("speedup") < ids.index("default-bandwidth")


def test_above_the_copy_has_its_reason(page, address):
    open_front(page, address)
    assert "125 %" in page.locator("#variants tbody").inner_text()
    for section in ("variants", "bandwidth", "default-bandwidth", "cpu", "shape"):
        note = page.locator(f"#{section} .note", has_text="above 100")
        assert "the copy writes half" in note.first.inner_text()


def test_bytes_and_variants_are_those_of_the_workloads(page, address):
    pytest.importorskip("torch")
    from measure import configurations, workloads

    open_front(page, address)
    variants = page.evaluate("ptgq.front.configurations.variants")
    assert list(variants) == list(configurations.PEER_VARIANTS)
    for name, its in variants.items():
        for tokens in (1, 33, 1024):
            options = configurations.PEER_VARIANTS[name]
            workload = workloads.Workload(tokens, configurations.VARIANT_HIDDEN, **options)
            known = "int8" if workload.dtype == "int8" else f"fp8_{workload.scales}"
            assert (its["group"], its["format"]) == (workload.group_size, known)
            assert its["silu"] == workload.silu_and_mul
            given = [tokens, workload.hidden, its["group"], its["format"], its["silu"]]
            assert page.evaluate("a => ptgq.bytes(...a)", given) == workload.bytes_moved


def test_a_variant_that_was_not_measured_says_so(page, address):
    open_front(page, address)
    said = page.locator("#variants .unmeasured")
    assert said.count() == 0
    page.evaluate(
        LESS.replace("KEEP", "values.variant !== 'silu_and_mul'").replace(
            "shape(0)", "bandwidth(0, ptgq.bandwidths[1])"
        )
    )
    page.locator("#variants select").first.select_option("silu_and_mul")
    assert said.inner_text() == "silu_and_mul with x produced was not measured on this machine yet."
    page.locator("#variants select").first.select_option("deep_gemm_hopper")
    assert said.count() == 0
    page.goto("about:blank")


def test_calls_have_columns_of_the_backends_that_were_measured(page, address):
    open_front(page, address)
    # As after a call was added: n/a, and where it is new, nothing.
    page.evaluate("""() => {
        const name = "call_latency.CallLatency.track_functions", { cells } = ptgq.front.machines[0];
        cells[name] = cells[name].map(function (stored, index) {
            const { backend, call } = ptgq.combination(name, index);
            return call === "dequantize" ? null : backend === "cpu" ? "n/a" : stored;
        });
        document.getElementById("sections").replaceChildren(ptgq.functions(0));
    }""")
    assert page.locator("#functions .group").all_inner_texts() == ["CUDA", "Triton"]
    new = [cells(line) for line in page.locator("#functions tbody tr").all()][-1]
    assert new[0] == "dequantize"
    assert {text.split("\n")[0] for text in new[1:5]} == {"–"}
    page.goto("about:blank")


def test_names_break_behind_their_parts_on_a_phone(page, address):
    page.set_viewport_size({"width": 390, "height": 844})
    open_front(page, address)
    name = page.locator("#speedup tbody td.text").first
    assert name.inner_text() == "fp8_row_float32"
    assert name.locator("wbr").count() == 2
    # No part is cut: each is as wide as it is alone, and the cell holds it.
    assert name.evaluate("cell => cell.scrollWidth <= cell.clientWidth")
    lines = name.evaluate("""cell => {
        const range = document.createRange();
        return [...cell.childNodes].filter((part) => part.data).map(function (part) {
            range.selectNodeContents(part);
            return range.getClientRects().length;
        });
    }""")
    assert lines == [1, 1, 1]


@pytest.mark.parametrize("how", ["served", "file"])
def test_a_shape_is_read_as_people_write_it(page, address, published, how):
    place = place_of(published, address, how)
    open_front(page, place)
    typed = page.locator("#shape input[type=text]")
    for text in ("1,024 × 7168", "1024X7168", " 1024 * 7,168 ", "1024, 7168", "1024 7168"):
        typed.fill("2 x 2")
        typed.press("Enter")
        assert "2 × 2 was not measured" in " ".join(said_of(page))
        page.locator("#shape input[type=text]").fill(text)
        page.locator("#shape input[type=text]").press("Enter")
        assert "GPU kernels: 1024 × 7168 was measured." in said_of(page)
    # In an address that somebody wrote, too.
    page.goto("about:blank")
    page.goto(f"{place}#machine={H200}&shape.shape=1%2C024+%C3%97+7168")
    browsers.wait_until(page, browsers.READY)
    assert "GPU kernels: 1024 × 7168 was measured." in said_of(page)
    assert page.locator("#shape .note code").count() == 0
    # A group that cannot be is no shape that nobody measured.
    for shape, groups in (("4096 x 2880", "64 of the measured group sizes does"), ("1x7000", "")):
        typed.fill(shape)
        typed.press("Enter")
        hidden = shape.split("x")[1].strip()
        refused = f"The group size 128 does not divide the hidden size {hidden}"
        assert said_of(page)[0].startswith(refused)
        assert groups in said_of(page)[0]
        assert page.locator("#shape .note code").count() == 0
    typed.fill("1000 x 7168")
    typed.press("Enter")
    note = page.locator("#shape .note", has=page.locator("code")).inner_text()
    assert note.startswith("To measure 1000 × 7168 on your own machine: nox -s bench -- --shape")
