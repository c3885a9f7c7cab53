"use strict";
// Time, GB/s and share of a same-bytes copy: the serving shapes on a GPU, and every CPU's shapes.
ptgq.bandwidths = [
  {
    id: "bandwidth", title: "How far from the copy: serving shapes", backends: ["cuda", "triton"],
    time: "kernel_time.KernelTime.track_serving_shapes", copy: "copy_distance.DistanceToCopy.track_serving_shapes",
    note: "Kernel time in a long CUDA graph, of row-major float32 scales. GB/s counts x read once, q " +
      "and s written once; % of copy is a same-bytes device copy's time over this time, in the same run " +
      "and with x in the same state. ",
    method: "graph", device: "cuda",
  },
  {
    id: "variants", title: "Formats, groups and the fused SiLU", backends: ["cuda", "triton"],
    time: "kernel_time.KernelTime.track_variants", copy: "copy_distance.DistanceToCopy.track_variants",
    note: "The same by what reads the scales (presets of ptgq.ScaleFormat, one of those that are alike), in groups of " +
      "64 and 32, in INT8, and of silu_and_mul. ",
    method: "graph", device: "cuda",
  },
  {
    id: "default-bandwidth", title: "How far from the copy: default shapes", backends: ["cuda", "triton"],
    time: "kernel_time.KernelTime.track_default_shapes", copy: "copy_distance.DistanceToCopy.track_default_shapes",
    note: "The same for the default shapes of the benchmark: too small to reach the memory's rate. ",
    method: "graph", device: "cuda",
  },
  {
    id: "cpu", title: "CPU: time and share of the copy", backends: ["cpu", "reference"],
    time: "cpu_time.CpuTime.track_call", copy: "cpu_time.CpuTime.track_copy_ratio",
    note: "% of copy is a same-bytes memcpy's time in the same run over this time. ",
    method: "events", device: "cpu",
  },
];

// Whether anything of a benchmark was measured here: its numbers, or failures.
ptgq.measured = function (machine, name) {
  const cells = ptgq.front.machines[machine].cells[name] || [];
  return cells.some((stored) => stored !== null && stored !== "n/a");
};

ptgq.bandwidth = function (machine, spec) {
  if (!ptgq.measured(machine, spec.time)) return null;
  const choice = { variant: "deep_gemm_hopper", group: "128", format: "fp8_row_float32", state: ptgq.states()[0] };
  const options = {};
  for (const key of Object.keys(choice)) {
    options[key] = ptgq.values(spec.time, key);
    // A benchmark without the parameter is of these alone.
    if (!options[key].length) continue;
    if (!options[key].includes(choice[key])) choice[key] = options[key].at(-1);
    choice[key] = ptgq.chosen(`${spec.id}.${key}`, choice[key], options[key]);
  }
  const hiddens = ptgq.values(spec.time, "hidden");
  const names = spec.backends.map((backend) => ptgq.backendNames[backend]);
  const onGpu = spec.device === "cuda" && ptgq.peak(machine) !== null;
  const columns = ["µs", "GB/s", "% of copy", ...(onGpu ? ["% of peak"] : [])];
  const table = el("div", {});
  const plot = el("div", {});

  // What is measured of a row: the chosen group and format, or the chosen variant's.
  const kind = () => options.variant.length ? ptgq.front.configurations.variants[choice.variant] || {} : choice;

  function cells(row, backend) {
    const wanted = { ...choice, ...row, backend };
    const time = ptgq.cell(machine, spec.time, wanted);
    // A ratio of the same run, or none.
    const same = ptgq.measuredAt(machine, spec.time) === ptgq.measuredAt(machine, spec.copy);
    const copy = ptgq.cell(machine, spec.copy, same ? wanted : -1);
    const bytes = bytesOf(row);
    return { time, copy, bytes, rate: (seconds) => digits(bytes / seconds / 1e9) };
  }

  const bytesOf = ({ tokens, width }) => ptgq.bytes(tokens, width, kind().group, kind().format, kind().silu);

  function draw() {
    const rows = [];
    for (const hidden of hiddens.length ? hiddens : [null])
      for (const tokens of ptgq.values(spec.time, "tokens")) {
        const width = hidden || ptgq.hiddenOf(spec.time, { tokens });
        rows.push({ tokens, hidden, width });
      }
    const lines = rows.map(function (row) {
      const found = spec.backends.map((backend) => cells(row, backend));
      const ratio = ptgq.ratio(found[0].time, found[1].time);
      const title = `${row.tokens} × ${row.width}, group ${kind().group}, ${kind().format}${kind().silu ? ", SiLU" : ""}`;
      const shown = found.flatMap(({ time, copy, bytes, rate }) => [
        el("td", { class: "first" }, ptgq.show(time, format.micro)),
        el("td", {}, time.state === "value" ? rate(time.value) : el("span", { class: "na" }, "–")),
        el("td", {}, ptgq.show(copy, (value) => format.percent(1 / value))),
        onGpu ? el("td", {}, ptgq.percentOfPeak(machine, bytes, time)) : null,
      ]);
      const entries = found.flatMap(({ time, copy }, place) => [
        { label: `${names[place]}, time`, read: time },
        { label: `${names[place]}, time / copy time`, read: copy },
      ]);
      const command = ptgq.tableCommand({
        tokens: row.tokens, hidden: row.width, group: kind().group, formatName: kind().format,
        device: spec.device, method: spec.method, state: choice.state, silu: kind().silu,
      });
      return el("tr", {}, el("th", { scope: "row" }, `${row.tokens} × ${row.width}`), ...shown,
        el("td", { class: "first" }, ratio === null ? "–" : format.times(ratio)),
        ptgq.more(title, entries, command));
    });
    const above = el("tr", {}, el("td", {}), ...names.map((name) =>
      el("th", { class: "group", colspan: String(columns.length), scope: "colgroup" }, name)), el("td", { colspan: "2" }));
    const head = el("tr", {},
      el("th", { scope: "col", class: "text" }, "Tokens × hidden"),
      ...names.flatMap(() => columns).map((name, place) =>
        el("th", { scope: "col", class: place % columns.length ? null : "first" }, name)),
      el("th", { scope: "col", class: "first" }, "speed-up"),
      el("th", { scope: "col" }, el("span", { class: "hidden-text" }, "Details")));
    const any = rows.some((row) => spec.backends.some((backend) => ["value", "failed"].includes(cells(row, backend).time.state)));
    table.replaceChildren(
      any ? "" : el("p", { class: "unmeasured", role: "status" }, `${choice.variant || choice.format}${options.state.length ? ` with x ${choice.state}` : ""} was not measured on this machine yet.`),
      ptgq.table(spec.id, spec.title, [above, head], lines));
    if (hiddens.length) drawPlot(rows);
  }

  function drawPlot(rows) {
    const tokens = ptgq.values(spec.time, "tokens").map(Number);
    const curves = spec.backends.flatMap((backend, place) =>
      hiddens.map((hidden, number) => ({
        label: `${names[place]} ${hidden}`, color: `--${backend}`,
        dash: [[], [7, 4], [2, 3]][number % 3],
        values: rows.filter((row) => row.hidden === hidden).map(function (row) {
          const { time } = cells(row, backend);
          const bytes = bytesOf(row);
          return time.state === "value" ? bytes / time.value / 1e9 : null;
        }),
      })));
    ptgq.plot(plot, {
      label: `GB/s over tokens, group ${choice.group}, ${choice.format}`, x: tokens, logarithmic: true,
      curves, y: (value) => `${digits(value)} GB/s`, xText: (value) => `${value} tokens`,
    });
  }

  const controls = [["variant", "Consumer or variant"], ["group", "Group"], ["format", "Format"], ["state", "x"]]
    .filter(([key]) => options[key].length > 1)
    .map(([key, label]) => ptgq.select(label, options[key], choice[key], (value) => {
      choice[key] = value;
      ptgq.choose({ [`${spec.id}.${key}`]: value });
      draw();
    }));
  const section = ptgq.section(spec.id, spec.title, el("p", { class: "note" }, spec.note, ptgq.ABOVE_COPY, " ", onGpu ? ptgq.peakNote([machine]) : ""),
    ptgq.measuredNote(machine, [spec.time]), ptgq.suspectNote(machine, spec.time),
    el("div", { class: "controls" }, ...controls), table, plot);
  // A plot needs its width: draw when it is on the page.
  section.drawn = draw;
  return section;
};
