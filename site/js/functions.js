"use strict";
// Eager calls of every function and format: one row a call, with and without out=.
ptgq.functions = function (machine) {
  const name = "call_latency.CallLatency.track_functions";
  if (!ptgq.measured(machine, name)) return null;
  const backends = ptgq.values(name, "backend").filter((backend) => ptgq.values(name, "call").some((call) =>
    ["value", "failed"].includes(ptgq.cell(machine, name, { backend, call, out: "False" }).state)));
  const outs = ptgq.values(name, "out");
  const rows = ptgq.values(name, "call").map(function (call) {
    const reads = backends.flatMap((backend) => outs.map((out) => ({
      label: `${ptgq.backendNames[backend]}${out === "True" ? ", out=" : ""}`, read: ptgq.cell(machine, name, { backend, call, out }),
    })));
    return el("tr", {}, el("th", { scope: "row" }, call),
      ...reads.map(({ read }, place) => el("td", { class: place % outs.length ? null : "first" }, ptgq.show(read, format.micro))),
      ptgq.more(call, reads));
  });
  const above = el("tr", {}, el("td", {}), ...backends.map((backend) =>
    el("th", { class: "group", colspan: String(outs.length), scope: "colgroup" }, ptgq.backendNames[backend])), el("td", {}));
  const head = ptgq.heads(["Call", ...backends.flatMap(() => outs.map((out) => out === "True" ? "out=, µs" : "µs"))]);
  head.append(el("th", { scope: "col" }, el("span", { class: "hidden-text" }, "Details")));
  return ptgq.section("functions", "Calls: every function and format",
    el("p", { class: "note" }, "Call latency of 16 × 512, host included: per_token_group_quant in each format (fp8_, int8), " +
      "silu_and_mul_… (silu_, silu-int8), masked rows, rms_norm_… (norm_, norm-int8), …_transposed, per_block_quant_fp8 (blocks) and dequantize; – was not measured yet. No verdicts: processes differ by half."),
    ptgq.measuredNote(machine, [name]), ptgq.table("functions", "Calls", [above, head], rows, { long: true }));
};
