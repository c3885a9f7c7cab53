"use strict";
// The functions before and beside the GEMM: what their kernels take, and whether their bytes are right.
ptgq.FORM_TIME = "beside_gemm.Kernels.track_time";
ptgq.FORM_COPY = "beside_gemm.Kernels.track_copy_ratio";
ptgq.FORM_BYTES = "beside_gemm.Bytes.track_differing_bytes";
ptgq.formFunctions = {
  norm: "RMSNorm", norm_residual: "RMSNorm, residual", transposed: "Rows and columns", blocks: "Blocks",
};

ptgq.besideGemm = function (machine) {
  const names = [ptgq.FORM_TIME, ptgq.FORM_BYTES].filter((name) => ptgq.measured(machine, name));
  if (!names.length) return null;
  const tables = { [ptgq.FORM_TIME]: kernels, [ptgq.FORM_BYTES]: bytes };
  return ptgq.section("beside-gemm", "Before and beside the GEMM",
    el("p", { class: "note" }, "The norm of x, or of x added to a residual, quantized in one kernel; rows and columns quantized from one read; " +
      "weights quantized in blocks. Their calls are among all others', below."),
    ptgq.measuredNote(machine, names), ...names.flatMap((name) => tables[name]()));

  function kernels() {
    const backends = ptgq.values(ptgq.FORM_TIME, "backend");
    const onGpu = ptgq.peak(machine) !== null;
    const columns = ["µs", "GB/s", "% of copy", ...(onGpu ? ["% of peak"] : [])];
    // A ratio of the same run, or none.
    const same = ptgq.measuredAt(machine, ptgq.FORM_TIME) === ptgq.measuredAt(machine, ptgq.FORM_COPY);
    const rows = ptgq.values(ptgq.FORM_TIME, "form").map(function (form) {
      // A form that the suite has no more.
      const known = ptgq.front.configurations.forms[form];
      const title = known ? `${ptgq.formFunctions[known.function]}, ${known.shape.join(" × ")}, ${known.state}` : form;
      const found = backends.map((backend) => ({
        backend, time: ptgq.cell(machine, ptgq.FORM_TIME, { backend, form }),
        copy: ptgq.cell(machine, ptgq.FORM_COPY, same ? { backend, form } : -1),
      }));
      const shown = found.flatMap(({ time, copy }) => [
        el("td", { class: "first" }, ptgq.show(time, format.micro)),
        el("td", {}, known && time.state === "value" ? digits(known.bytes / time.value / 1e9) : el("span", { class: "na" }, "–")),
        el("td", {}, ptgq.show(copy, (value) => format.percent(1 / value))),
        onGpu ? el("td", {}, known ? ptgq.percentOfPeak(machine, known.bytes, time) : "–") : null,
      ]);
      const ratio = ptgq.ratio(found[0].time, found[1].time);
      return el("tr", {}, el("th", { scope: "row" }, title), ...shown,
        el("td", { class: "first" }, ratio === null ? "–" : format.times(ratio)),
        ptgq.more(title, found.flatMap(({ backend, time, copy }) => [
          { label: `${ptgq.backendNames[backend]}, time`, read: time },
          { label: `${ptgq.backendNames[backend]}, time / copy time`, read: copy },
        ])));
    });
    const above = el("tr", {}, el("td", {}), ...backends.map((backend) =>
      el("th", { class: "group", colspan: String(columns.length), scope: "colgroup" }, ptgq.backendNames[backend])), el("td", { colspan: "2" }));
    const head = ptgq.heads(["Function and shape", ...backends.flatMap(() => columns), "speed-up"]);
    head.append(el("th", { scope: "col" }, el("span", { class: "hidden-text" }, "Details")));
    return [el("p", { class: "note" }, "Kernel time in a long CUDA graph, with x as the row says, of groups of 128, blocks of 128 × 128 and row-major float32 " +
      "scales. GB/s counts all that is read, and all that is written, once; % of copy is the time of a device copy of as many bytes, " +
      "in the same run and state, over this time. ", onGpu ? ptgq.peakNote([machine]) : ""),
    ptgq.table("beside-gemm.kernels", "Kernels before and beside the GEMM", [above, head], rows)];
  }

  function bytes() {
    const backends = ptgq.values(ptgq.FORM_BYTES, "backend");
    const rows = ptgq.values(ptgq.FORM_BYTES, "call").map(function (call) {
      const reads = backends.map((backend) => ({ label: ptgq.backendNames[backend], read: ptgq.cell(machine, ptgq.FORM_BYTES, { backend, call }) }));
      return el("tr", {}, el("th", { scope: "row" }, call),
        ...reads.map(({ read }) => el("td", { class: read.value > 0 ? "worse" : null }, ptgq.show(read, String))), ptgq.more(call, reads));
    });
    const head = ptgq.heads(["Call", ...backends.map((backend) => ptgq.backendNames[backend])]);
    head.append(el("th", { scope: "col" }, el("span", { class: "hidden-text" }, "Details")));
    return [el("p", { class: "note" }, "Bytes that differ from the reference's on the CPU, of all that is written: padding and the residual, too."),
      ptgq.table("beside-gemm.bytes", "Bytes that differ", [head], rows)];
  }
};
