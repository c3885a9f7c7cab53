"use strict";
// What two measurements differ in beside the code, and what of them can't be compared, and why.
ptgq.factsAt = (machine, commit) => ({ ...ptgq.front.machines[machine].params, ...ptgq.front.machines[machine].facts[commit] });

ptgq.differing = function (before, after) {
  const [one, other] = [before, after].map(([machine, { commit }]) => ptgq.factsAt(machine, commit));
  const text = (key, value) => !value ? "none" : key === "ram" ? format.memory(value) : value;
  return Object.keys({ ...one, ...other }).filter((key) => key !== "machine" && (one[key] || "none") !== (other[key] || "none"))
    .map((key) => `${key} (${text(key, one[key])}; ${text(key, other[key])})`);
};

// Why two numbers get no verdict, whatever they are: kernels were added or taken away, or the host's
// times are of other numbers of CPUs. `kernels` gives a family's two counts.
ptgq.KERNEL_COUNT = "footprint.Kernels.track_kernels";
ptgq.settled = function (verdict, name, index, [before, after], kernels) {
  if (!["worse", "better", "undecided"].includes(verdict)) return verdict;
  const host = ptgq.benchmark(name).unit === "seconds" && !/^(kernel_time|timed\.Kernels|masked_rows|beside_gemm\.Kernels)\./.test(name);
  if (host && before.num_cpu !== after.num_cpu) return "other CPUs";
  // That a kernel spills is said, of an added one, too.
  if (!/^footprint\.(Kernels|Library)\./.test(name) || name.endsWith("spill_bytes")) return verdict;
  const { family = "all" } = ptgq.combination(name, index);
  const [old, now] = kernels(ptgq.index(ptgq.KERNEL_COUNT, { family }));
  return old !== now ? "other kernels" : verdict;
};

ptgq.FAMILIES = {
  kernel_time: "Kernel times", call_latency: "Calls", timed: "Times of a process each", cpu_time: "CPU calls", peers: "Other implementations",
  copy_distance: "Time / copy time", cuda_vs_triton: "CUDA / Triton", accuracy: "Accuracy and byte identity", scale_formats: "Bytes of scale formats",
  masked_rows: "Masked rows", beside_gemm: "Before and beside the GEMM", footprint: "Footprint and start-up", code_hash: "Hashes of machine code",
};
ptgq.family = (name) => name.split(".")[0];
// They tell compilers and releases apart, not machines.
ptgq.ofCompilers = (name) => ["footprint", "code_hash"].includes(ptgq.family(name));
ptgq.ofGpu = (family) => ["kernel_time", "copy_distance", "cuda_vs_triton", "masked_rows"].includes(family);

// A line for each family that one of two machines has and no row of `rows` compares.
ptgq.notCompared = function (before, after, rows) {
  const compared = new Set(rows.filter(({ read }) => read.state === "value" && read.before).map(({ read }) => ptgq.family(read.name)));
  const name = ([machine]) => ptgq.front.machines[machine].params.machine;
  const has = ([, { cells }], family) => Object.entries(cells).some(([key, row]) =>
    ptgq.family(key) === family && row.some((stored) => ptgq.ends(stored)));
  const found = [];
  for (const [family, title] of Object.entries(ptgq.FAMILIES)) {
    const those = [before, after].filter((side) => has(side, family));
    if (compared.has(family) || !those.length) continue;
    const why = ptgq.ofCompilers(family) ? ["these depend on the compiler, on torch and on Triton, not on the machine."]
      : those.length === 2 ? ["each has other rows."] : missing(those[0] === before ? after : before, those[0], family);
    found.push([`${title}: `, ...why]);
  }
  return found;

  function missing(without, other, family) {
    const [machine] = without;
    if (ptgq.ofGpu(family) && !ptgq.hasGpu(machine)) return [`${name(without)} has no GPU.`];
    const elsewhere = Object.entries(ptgq.front.machines[machine].measured).filter(([key]) =>
      ptgq.family(key) === family && ptgq.measured(machine, key)).map(([, [at]]) => at);
    if (elsewhere.length) return [`not measured on ${name(without)} at this commit, but at `, ptgq.commitLink(Math.max(...elsewhere)), "."];
    const commit = format.hash(ptgq.front.commits[other[1].commit][0]);
    return [`never measured on ${name(without)} as the benchmark is now; there: `,
      el("code", {}, `nox -s track -- '${commit}^!' --bench '^${family}\\.'`), "."];
  }
};

// What stands above a pair's verdicts.
ptgq.pairNotes = function (before, after, rows) {
  const differ = ptgq.differing(before, after);
  const others = before[0] !== after[0];
  const notes = [];
  if (differ.length) notes.push(el("p", {}, `${others ? "The machines differ" : "The machine had changed"} in ${differ.join(", ")}.`));
  const place = el("div", { class: "pair", role: "status" }, ...notes);
  if (!others) return place;
  const times = rows.filter(({ read }) => read.state === "value" && read.before && ptgq.benchmark(read.name).unit === "seconds");
  const left = ptgq.notCompared(before, after, rows);
  if (!times.length) place.append(el("p", { class: "worse" }, "No time was measured on both, so that these two say nothing of which machine is faster."));
  if (left.length) place.append(el("p", {}, "Not compared:"), el("ul", {}, ...left.map((line) => el("li", {}, ...line))));
  return place;
};
