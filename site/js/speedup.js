"use strict";
// The first table: CUDA against Triton (CPU against the reference without a GPU), and its bars.
ptgq.KERNEL = "kernel_time.KernelTime.track_default_shapes";
ptgq.CALL = "call_latency.CallLatency.track_default_shapes";

// Which two backends a machine compares: the slower one over the faster one is the speed-up.
ptgq.pair = (machine) =>
  ptgq.hasGpu(machine) ? ["cuda", "triton"] : ["cpu", "reference"];

ptgq.defaultRows = function (name) {
  const rows = [];
  for (const tokens of ptgq.values(name, "tokens"))
    for (const group of ptgq.values(name, "group"))
      for (const formatName of ptgq.values(name, "format")) rows.push({ tokens, group, format: formatName });
  return rows;
};

ptgq.ratio = (fast, slow) =>
  fast.state === "value" && slow.state === "value" ? slow.value / fast.value : null;

// The cells that a bar or a tile stands for: [{row, fast, slow, ratio}].
ptgq.compare = function (machine, name, fixed) {
  const [fast, slow] = ptgq.pair(machine);
  return ptgq.defaultRows(name).map(function (row) {
    const cells = [fast, slow].map((backend) =>
      ptgq.cell(machine, name, { ...row, ...fixed, backend }));
    return { row, fast: cells[0], slow: cells[1], ratio: ptgq.ratio(...cells) };
  });
};

ptgq.bar = function (ratio, longest) {
  if (ratio === null) return el("td", { class: "bar na" }, el("span", {}, "–"));
  const strip = el("i", { "aria-hidden": "true", class: ratio < 1 ? "loss" : null });
  strip.style.width = ptgq.barWidth(ratio / longest);
  return el("td", { class: "bar" }, strip, el("span", {}, format.times(ratio)));
};

ptgq.speedup = function (machine) {
  const onGpu = ptgq.hasGpu(machine);
  const names = ptgq.pair(machine).map((backend) => ptgq.backendNames[backend]);
  if (![ptgq.CALL, ptgq.KERNEL].some((name) => ptgq.measured(machine, name))) {
    return ptgq.section("speedup", `${names[0]} against ${names[1]}`,
      el("p", { class: "na" }, "Call latency and kernel time: not measured by the benchmarks as they are now."));
  }
  let state = ptgq.chosen("speedup.state", ptgq.states()[0], ptgq.states());
  const body = el("div", {});

  function draw() {
    const call = ptgq.compare(machine, ptgq.CALL, {});
    const kernel = onGpu ? ptgq.compare(machine, ptgq.KERNEL, { state }) : [];
    const longest = Math.max(1, ...call.concat(kernel).map((entry) => entry.ratio || 0));
    const rows = call.map(function ({ row, fast, slow, ratio }, place) {
      const hidden = ptgq.hiddenOf(ptgq.CALL, row);
      const title = `${row.tokens} × ${hidden}, group ${row.group}, ${row.format}`;
      const entries = [
        { label: `${names[0]}, call latency`, read: fast },
        { label: `${names[1]}, call latency`, read: slow },
      ];
      const cells = [
        el("td", { class: "first" }, ptgq.show(fast, format.micro)),
        el("td", {}, ptgq.show(slow, format.micro)),
        ptgq.bar(ratio, longest),
      ];
      if (onGpu) {
        const inKernel = kernel[place] || { fast: ptgq.cell(machine, ptgq.KERNEL, -1), slow: ptgq.cell(machine, ptgq.KERNEL, -1), ratio: null };
        cells.push(
          el("td", { class: "first" }, ptgq.show(inKernel.fast, format.micro)),
          el("td", {}, ptgq.show(inKernel.slow, format.micro)),
          ptgq.bar(inKernel.ratio, longest),
        );
        entries.push(
          { label: `${names[0]}, kernel time, ${state}`, read: inKernel.fast },
          { label: `${names[1]}, kernel time, ${state}`, read: inKernel.slow },
          ...["Call", "Kernel"].map((what) => ({
            label: `CUDA / Triton, ${what.toLowerCase()}, from paired samples`,
            read: ptgq.cell(machine, `cuda_vs_triton.${what}Ratio.track_default_shapes`, { ...row, state }),
          })),
        );
      }
      const command = ptgq.tableCommand({
        ...row, hidden, formatName: row.format, device: onGpu ? "cuda" : "cpu",
      });
      return el("tr", {},
        el("th", { scope: "row" }, `${row.tokens} × ${hidden}`),
        el("td", {}, row.group), el("td", { class: "text" }, row.format),
        ...cells, ptgq.more(title, entries, command));
    });
    const wide = (text) => el("th", { class: "group", colspan: "3", scope: "colgroup" }, text);
    const columns = [`${names[0]} µs`, `${names[1]} µs`, "speed-up"];
    const head = el("tr", {},
      el("th", { scope: "col", class: "text" }, "Tokens × hidden"),
      el("th", { scope: "col" }, "Group"), el("th", { scope: "col", class: "text" }, "Format"),
      ...[...columns, ...(onGpu ? columns : [])].map((name, place) =>
        el("th", { scope: "col", class: place % 3 === 0 ? "first" : place % 3 === 2 ? "text" : null }, name)),
      el("th", { scope: "col" }, el("span", { class: "hidden-text" }, "Details")));
    const above = el("tr", {}, el("td", { colspan: "3" }), wide("Call latency"),
      onGpu ? wide(`Kernel time, ${state}`) : null, el("td", {}));
    body.replaceChildren(ptgq.table("speedup", `${names[0]} and ${names[1]}`, [above, head], rows));
  }

  draw();
  const pick = ptgq.select("Kernel time with x", ptgq.states(), state,
    (value) => { state = value; ptgq.choose({ "speedup.state": value }); draw(); });
  return ptgq.section("speedup", `${names[0]} against ${names[1]}`,
    el("p", { class: "note" },
      `Call latency is what a caller waits for per eager call, host included. ` +
      (onGpu ? `Kernel time is the device alone: with x just produced by the kernel before, hot in the L2 cache, or cold. ` : `CUDA and Triton are n/a: this machine has no GPU. `) +
      `Speed-up is ${names[1]} / ${names[0]}. Each number leads to its history, ••• to its interval and its command.`),
    ptgq.measured(machine, ptgq.CALL) ? "" : el("p", { class: "na" },
      "Call latency: not measured with the benchmark as it is now."),
    ptgq.measuredNote(machine, [ptgq.CALL, ptgq.KERNEL]),
    onGpu ? el("div", { class: "controls" }, pick) : "", body);
};
