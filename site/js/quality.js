"use strict";
// What has no speed: accuracy, byte identity, footprint.
ptgq.ERROR = "accuracy.Accuracy.track_relative_rms_error";
ptgq.IDENTITY = "accuracy.ByteIdentity.track_differing_bytes";

ptgq.accuracy = function (machine) {
  const data = ptgq.values(ptgq.ERROR, "data");
  if (!ptgq.measured(machine, ptgq.ERROR)) return null;
  const rows = [];
  for (const formatName of ptgq.values(ptgq.ERROR, "format"))
    for (const group of ptgq.values(ptgq.ERROR, "group")) {
      const reads = data.map((kind) => ptgq.cell(machine, ptgq.ERROR, { data: kind, group, format: formatName }));
      rows.push(el("tr", {}, el("th", { scope: "row" }, formatName), el("td", {}, group),
        ...reads.flatMap((read) => [
          el("td", { class: "first" }, ptgq.show(read, (value) => value.toPrecision(3))),
          el("td", {}, read.state === "value" ? format.decibel(read.value) : "–")]),
        ptgq.more(`Accuracy, ${formatName}, group ${group}`,
          reads.map((read, place) => ({ label: data[place].replaceAll("_", " "), read })))));
    }
  const above = el("tr", {}, el("td", { colspan: "2" }), ...data.map((kind) =>
    el("th", { class: "group", colspan: "2", scope: "colgroup" }, kind.replaceAll("_", " "))), el("td", {}));
  const head = el("tr", {}, el("th", { scope: "col", class: "text" }, "Format"), el("th", { scope: "col" }, "Group"),
    ...data.flatMap(() => [el("th", { scope: "col", class: "first" }, "error"), el("th", { scope: "col" }, "SQNR")]),
    el("th", { scope: "col" }, el("span", { class: "hidden-text" }, "Details")));
  return ptgq.section("accuracy", "Accuracy",
    el("p", { class: "note" }, "Relative RMS error of dequantize(quantize(x)); SQNR = −20 log10(error)."),
    ptgq.measuredNote(machine, [ptgq.ERROR]),
    ptgq.table("accuracy", "Accuracy", [above, head], rows));
};

// Of each backend: how many checks agreed, differed, failed or do not apply.
ptgq.identities = function (machine) {
  const count = (ptgq.front.machines[machine].cells[ptgq.IDENTITY] || []).length;
  const found = {};
  for (let index = 0; index < count; index++) {
    const { backend } = ptgq.combination(ptgq.IDENTITY, index);
    const tally = (found[backend] ||= { same: 0, differ: [], failed: [], "n/a": 0, missing: 0 });
    const read = ptgq.cell(machine, ptgq.IDENTITY, index);
    if (read.state === "failed") tally.failed.push(read);
    else if (read.state !== "value") tally[read.state] += 1;
    else if (read.value === 0) tally.same += 1;
    else tally.differ.push(read);
  }
  return found;
};

ptgq.identity = function (machine) {
  const found = ptgq.identities(machine);
  if (!Object.keys(found).length) return null;
  const rows = Object.entries(found).map(function ([backend, tally]) {
    const worst = tally.differ.concat(tally.failed);
    const first = ptgq.cell(machine, ptgq.IDENTITY,
      ptgq.benchmark(ptgq.IDENTITY).names.indexOf("backend") === 0
        ? ptgq.values(ptgq.IDENTITY, "backend").indexOf(backend) *
          (ptgq.front.machines[machine].cells[ptgq.IDENTITY].length / ptgq.values(ptgq.IDENTITY, "backend").length)
        : 0);
    const name = ptgq.backendNames[backend] || backend;
    const total = tally.same + worst.length;
    return el("tr", {},
      el("th", { scope: "row" }, name),
      el("td", {}, total ? el("a", { href: ptgq.historyAddress(worst[0] || first) }, `${tally.same} of ${total}`) : "n/a"),
      el("td", { class: tally.differ.length ? "worse" : null }, String(tally.differ.length)),
      el("td", { class: tally.failed.length ? "failed" : null }, String(tally.failed.length)),
      el("td", { class: "na text" }, tally["n/a"] ? `${tally["n/a"]} (${ptgq.why(first)})` : "0"),
      ptgq.more(`Byte identity, ${name}`,
        (worst.length ? worst : [first]).slice(0, 20).map((read) => ({ label: ptgq.seriesTitle(read), read }))));
  });
  const head = ptgq.heads(["Backend", "identical", "differ", "failed", "n/a"]);
  head.lastChild.className = "text";
  head.append(el("th", { scope: "col" }, el("span", { class: "hidden-text" }, "Details")));
  return ptgq.section("identity", "Byte identity",
    el("p", { class: "note" }, "Checks of q and s, byte for byte, against the reference on the CPU: data × group × format."),
    ptgq.measuredNote(machine, [ptgq.IDENTITY]),
    ptgq.table("identity", "Byte identity", [head], rows));
};

// What each family of CUDA kernels is for; its last word is the type of x.
ptgq.KERNELS = {
  vector_kernel: "groups of 16 to 512 elements, a multiple of 16, in aligned rows: what is served",
  tile_kernel: "groups of up to 512 elements, of any size and alignment; codes go through shared memory",
  small_kernel: "groups of up to 6 elements",
  wide_kernel: "a block a group: any multiple of 16 elements, in aligned rows",
  silu_and_mul_kernel: "SiLU(gate) · up, quantized, in one kernel",
  per_token_group_quant_kernel: "what the faster ones do not take: any group size, alignment and row stride",
  per_token_group_quant_masked_kernel: "masked rows: groups of 16 to 512 elements, a multiple of 16, in aligned rows",
  per_token_group_quant_masked_any_kernel: "masked rows, what the other does not take",
  per_token_group_quant_transposed_kernel: "rows and columns from one read: groups of 16 to 128, a power of two, in aligned rows",
  per_token_group_quant_transposed_columns_kernel: "columns of any other group size, beside a kernel of the rows",
  rms_norm_per_token_group_quant_kernel: "RMSNorm, quantized: rows that a block's registers hold",
  rms_norm_per_token_group_quant_rows_kernel: "RMSNorm, quantized: what the other does not take",
  per_block_quant_tile_kernel: "weights in blocks of 128 × 128",
  per_block_quant_kernel: "weights in blocks of any other size",
  dequantize_blocks_kernel: "dequantize_blocks, blocks that the matrix cuts off",
  dequantize_kernel: "dequantize, groups of whole 16-byte stores: what is served",
  dequantize_small_kernel: "dequantize, contiguous codes in groups of any other size",
  dequantize_rows_kernel: "dequantize, what the other two do not take: any alignment and row stride",
};

// One table for each class of the suite's footprint file: a row a combination, a column a count.
ptgq.footprint = function (machine) {
  const classes = new Map();
  for (const benchmark of ptgq.front.benchmarks) {
    const [file, className, method] = benchmark.name.split(".");
    if (file !== "footprint" || !ptgq.measured(machine, benchmark.name)) continue;
    const key = `${className} ${JSON.stringify(benchmark.params)}`;
    if (!classes.has(key)) classes.set(key, { className, columns: [] });
    classes.get(key).columns.push({ benchmark, title: method.replace(/^track_/, "").replaceAll("_", " ") });
  }
  if (!classes.size) return null;
  const tables = [...classes.values()].map(function ({ className, columns }) {
    const { name, names } = columns[0].benchmark;
    const count = ptgq.front.machines[machine].cells[name].length;
    const rows = [];
    for (let index = 0; index < count; index++) {
      const title = Object.values(ptgq.combination(name, index)).join(", ") || "all";
      const reads = columns.map(({ benchmark }) => ptgq.cell(machine, benchmark.name, index));
      if (reads.every((read) => read.state === "n/a")) continue;
      rows.push(el("tr", {}, el("th", { scope: "row" }, title),
        ...reads.map(function (read) {
          const { unit } = ptgq.benchmark(read.name);
          const style = read.verdict === "worse" || read.verdict === "better" ? read.verdict : null;
          const changed = style || ["other kernels", "other CPUs"].includes(read.verdict);
          const old = changed ? el("span", { class: "was" }, ` (was ${format.unit(read.before.value, unit === "seconds" ? unit : "")})`) : "";
          return el("td", { class: style }, ptgq.show(read, (value) => format.unit(value, unit === "seconds" ? unit : "")), old);
        }),
        ptgq.more(`${className}: ${title}`, reads.map((read, place) => ({ label: columns[place].title, read })))));
    }
    const head = ptgq.heads([names.join(", ") || className, ...columns.map((column) => column.title)]);
    head.append(el("th", { scope: "col" }, el("span", { class: "hidden-text" }, "Details")));
    const families = names.includes("family") ? ptgq.values(name, "family").map((family) => family.split("<")[0]) : [];
    const known = [...new Set(families)].filter((family) => ptgq.KERNELS[family]);
    const explained = known.length ? el("details", { class: "note" }, el("summary", {}, "What the kernels are for"),
      el("dl", { class: "kernels" }, ...known.map((family) =>
        el("div", {}, el("dt", {}, el("code", {}, family)), el("dd", {}, ptgq.KERNELS[family]))))) : "";
    return [el("h3", {}, className), explained, ptgq.table(`footprint.${className}`, className, [head], rows, { long: rows.length > 16 })];
  });
  return ptgq.section("footprint", "Footprint",
    el("p", { class: "note" }, "Per compiled kernel, the built library, and starting up. No GPU is needed to count these."),
    ptgq.measuredNote(machine, [...classes.values()].flatMap(({ columns }) => columns.map(({ benchmark }) => benchmark.name))),
    ...tables.flat());
};
