"use strict";
// Numbers, links, commands and tables. Text from results or commits only ever becomes text nodes.
ptgq.titles = {
  "call_latency.CallLatency.track_default_shapes": "Call latency",
  "call_latency.CallLatency.track_functions": "Call latency, functions and formats",
  "call_latency.RelativeToAbs.track_default_shapes": "Call / torch.abs",
  "call_latency.RelativeToAbs.track_functions": "Call / torch.abs, functions and formats",
  "call_latency.RelativeToTorch.track_default_shapes": "Call / abs and two allocations",
  "call_latency.RelativeToTorch.track_functions": "Call / abs and two allocations, functions and formats",
  "kernel_time.KernelTime.track_default_shapes": "Kernel time, default shapes",
  "kernel_time.KernelTime.track_serving_shapes": "Kernel time, serving shapes",
  "kernel_time.KernelTime.track_variants": "Kernel time, formats and functions",
  "cuda_vs_triton.CallRatio.track_default_shapes": "CUDA / Triton, call latency, paired",
  "cuda_vs_triton.KernelRatio.track_default_shapes": "CUDA / Triton, kernel time, paired",
  "cuda_vs_triton.KernelRatio.track_serving_shapes": "CUDA / Triton, kernel time, serving shapes",
  "cuda_vs_triton.KernelRatio.track_variants": "CUDA / Triton, kernel time, formats and functions",
  "copy_distance.DistanceToCopy.track_default_shapes": "Time / copy time, default shapes",
  "copy_distance.DistanceToCopy.track_serving_shapes": "Time / copy time, serving shapes",
  "copy_distance.DistanceToCopy.track_variants": "Time / copy time, formats and functions",
  "timed.Calls.time_default_shapes": "Call latency, a process each",
  "timed.Kernels.time_default_shapes": "Kernel time, hot, a process each",
  "accuracy.Accuracy.track_relative_rms_error": "Relative RMS error",
  "accuracy.ByteIdentity.track_differing_bytes": "Bytes that differ from the reference",
  "peers.Peers.track_default_shapes": "Implementations, default shapes",
  "peers.Peers.track_serving_shapes": "Implementations, serving shapes",
  "peers.Peers.track_masked_rows": "Implementations, masked rows",
  "peers.PeerExactness.track_differing_codes": "Implementations, codes that differ from the contract",
  "peers.PeerExactness.track_differing_scales": "Implementations, scales that differ from the contract",
  "peers.PeerExactness.track_relative_rms_error": "Implementations, relative RMS error",
  "cpu_time.CpuTime.track_call": "CPU call time",
  "cpu_time.CpuTime.track_copy_ratio": "CPU time / copy time",
  "masked_rows.MaskedTime.track_masked_rows": "Kernel time, masked rows",
  "masked_rows.MaskedDistance.track_masked_rows": "Time / time of as many rows and a memset, masked rows",
  "beside_gemm.Kernels.track_time": "Kernel time, before and beside the GEMM",
  "beside_gemm.Kernels.track_copy_ratio": "Time / copy time, before and beside the GEMM",
  "beside_gemm.Bytes.track_differing_bytes": "Bytes that differ from the reference, before and beside the GEMM",
};
ptgq.title = (name) => ptgq.titles[name] || name;
ptgq.backendNames = { cuda: "CUDA", triton: "Triton", cpu: "CPU", reference: "Reference" };
// Of x, when the kernel starts: what serving has comes first.
ptgq.states = () => ptgq.front.configurations.states;

// The hidden size of a combination: its own parameter, or the one that the benchmark's tokens have.
ptgq.hiddenOf = function (name, { tokens, hidden }) {
  if (hidden) return hidden;
  const { default_hidden, variant_hidden } = ptgq.front.configurations;
  return name.endsWith("track_variants") ? variant_hidden : default_hidden[tokens] || variant_hidden;
};

// The choices of a combination in words: "cuda", "16 × 512", "group 64", "int8".
ptgq.words = function (name, combination) {
  const found = [];
  for (const [key, value] of Object.entries(combination)) {
    if (key === "tokens") found.push(`${value} × ${ptgq.hiddenOf(name, combination)}`);
    else if (key === "hidden" && "tokens" in combination) continue;
    else found.push(["group", "count"].includes(key) ? `${key} ${value}` : value);
  }
  return found;
};

// el("a", {href: "x"}, "text"): a string child is text, never markup.
function el(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "onclick") element.addEventListener("click", value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// At least three digits, no exponent: 0.853, 11.4, 164.9, 1,104.
function digits(number) {
  const size = Math.abs(number);
  if (size === 0) return "0";
  if (size < 0.001) return number.toPrecision(3);
  const decimals = size < 1 ? 3 : size < 10 ? 2 : size < 1000 ? 1 : 0;
  return number.toLocaleString("en", {
    minimumFractionDigits: decimals,
    maximumFractionDigits: decimals,
  });
}

const format = {
  micro: (seconds) => digits(seconds * 1e6),
  times: (ratio) => `×${ratio.toFixed(2)}`,
  percent: (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`,
  // No change that was called reads as none.
  change(ratio) {
    const percent = Math.abs(100 * (ratio - 1));
    return `${ratio >= 1 ? "+" : "−"}${percent && percent < 0.05 ? percent.toPrecision(1) : percent.toFixed(1)} %`;
  },
  // dB of signal over noise from the relative RMS error.
  decibel: (error) => `${(-20 * Math.log10(error)).toFixed(1)} dB`,
  unit(number, unit) {
    if (unit !== "seconds") {
      const text = Number.isInteger(number) ? number.toLocaleString("en") : digits(number);
      // "cuda / triton": a ratio, which the title names already.
      return unit && !unit.includes("/") ? `${text} ${unit}` : text;
    }
    if (Math.abs(number) < 1e-3) return `${digits(number * 1e6)} µs`;
    return Math.abs(number) < 1 ? `${digits(number * 1e3)} ms` : `${digits(number)} s`;
  },
  // asv stores a machine's memory in bytes.
  memory: (bytes) => Number(bytes) > 0 ? `${(Number(bytes) / 2 ** 30).toFixed(0)} GiB` : bytes,
  date: (seconds) => new Date(seconds * 1000).toISOString().slice(0, 10),
  hash: (commit) => commit.slice(0, ptgq.front.hash_length),
};

ptgq.interval = function (measured, unit) {
  if (measured.low === null || measured.high === null) return "too few samples for an interval";
  if (measured.low === measured.high) return "counted, no spread";
  return `99 % interval ${format.unit(measured.low, unit)} to ${format.unit(measured.high, unit)}`;
};

// Bytes of one call, as measure.workloads counts them: x is read once in bfloat16, twice as wide where
// SiLU is fused, q and s, with its padding, are written once.
ptgq.bytes = function (tokens, hidden, group, formatName, silu) {
  const [rows, groups] = [Number(tokens), hidden / group];
  const padded = (number, unit) => Math.ceil(number / unit) * unit;
  const { dtype, layout } = ptgq.front.configurations.formats[formatName];
  const row = dtype === "int32" || layout === "tiled" ? padded(groups, 4) : groups * (dtype === "float32" ? 4 : 1);
  return rows * hidden * (silu ? 5 : 3) + padded(rows, { tma_aligned: 4, tiled: 128 }[layout] || 1) * row;
};

// A bar as wide as a share of its cell without the padding.
ptgq.barWidth = (share) => `calc(${share} * (100% - 1rem))`;

// Why a kernel may be faster than the copy that it is measured against.
ptgq.ABOVE_COPY = "% of copy is above 100 where the op is faster: of as many bytes, the copy writes half and the kernel a third " +
  "or less, and its launches overlap.";

// A machine's facts are "none" where it lacks a thing.
ptgq.fact = function (machine, key) {
  const value = ptgq.front.machines[machine].params[key];
  return value && value !== "none" ? value : null;
};
ptgq.hasGpu = (machine) => ptgq.fact(machine, "gpu") !== null;

// Why a number is not there, as far as the record tells.
ptgq.why = function (read) {
  if (read.state === "failed") return "failed at this commit";
  if (read.state === "missing") return "not measured";
  const backend = read.index < 0 ? null : ptgq.combination(read.name, read.index).backend;
  if (backend === "reference" && read.name === ptgq.IDENTITY) return "what the others are compared with";
  const needsGpu =
    backend === "cuda" || backend === "triton" || /^(cuda_vs_triton|kernel_time|copy_dist|timed\.Kernels)/.test(read.name);
  return needsGpu && !ptgq.hasGpu(read.machine) ? "no GPU on this machine" : "not applicable at this commit";
};

// The address of one series' history on this page, which works from a file, too.
ptgq.historyAddress = function (read) {
  const values = read.index < 0 ? [] : Object.values(ptgq.combination(read.name, read.index));
  const { machine } = ptgq.front.machines[read.machine].params;
  const choices = values.map((value) => ["value", value]);
  return "#" + new URLSearchParams([["machine", machine], ["at", "history"], ["series", read.name], ...choices]);
};

// How far a measured commit is behind a later one: what changed may be any of those between.
ptgq.between = function (earlier, later) {
  const [, , , number, touching] = ptgq.front.commits[earlier];
  const [, , , newer, compiled] = ptgq.front.commits[later];
  if (newer <= number) return newer === number ? "the same commit" : `${number - newer} commits after`;
  const count = newer - number;
  return count === 1 ? "the commit before" : `${count} commits before, ${compiled - touching} touch csrc`;
};

// The series that such an address names, or null.
ptgq.namedSeries = function (machine, address) {
  const [name, values] = [address.get("series"), address.getAll("value")];
  const benchmark = ptgq.benchmark(name);
  if (!benchmark || values.length !== benchmark.names.length) return null;
  const wanted = Object.fromEntries(benchmark.names.map((key, place) => [key, values[place]]));
  const index = ptgq.index(name, wanted);
  return index < 0 ? null : ptgq.cell(machine, name, index);
};

// asv's pages fetch their data, which a page opened from a file may not.
ptgq.served = location.protocol !== "file:";

// asv's own address of one series; keep in step with parse_hash_string in asv.js.
ptgq.graph = function (read) {
  const benchmark = ptgq.benchmark(read.name);
  const params = ptgq.front.machines[read.machine].params;
  const pairs = ptgq.front.differing
    .filter((key) => key !== "branch")
    .map((key) => [key, params[key] === undefined ? "[none]" : params[key]]);
  const plain = read.index < 0 ? {} : ptgq.combination(read.name, read.index);
  benchmark.names.forEach(function (name, axis) {
    const stored = benchmark.params[axis].find((value) => ptgq.plain(value) === plain[name]);
    pairs.push([`p-${name}`, stored]);
  });
  const query = pairs.map((pair) => pair.map(encodeURIComponent).join("=")).join("&");
  return `asv.html#${encodeURIComponent(read.name)}${query ? "?" + query : ""}`;
};

// The number as a link to its history, or why there is none.
ptgq.show = function (read, text) {
  if (read.state === "missing" || read.index < 0) {
    return el("span", { class: "na", title: ptgq.why(read) }, "–",
      el("span", { class: "hidden-text" }, ptgq.why(read)));
  }
  const unit = ptgq.benchmark(read.name).unit;
  const label = { "n/a": "n/a", failed: "failed" }[read.state] || text(read.value);
  const title = read.state === "value" ? ptgq.interval(read, unit) : ptgq.why(read);
  const style = read.state === "value" ? null : read.state === "failed" ? "failed" : "na";
  const sort = read.state === "value" ? read.value : null;
  const why = ptgq.suspect(read);
  const link = el("a", { href: ptgq.historyAddress(read), title: why ? `Doubtful: ${why}. ${title}` : title, class: style, "data-sort": sort }, label);
  return why ? el("span", {}, link, el("strong", { class: "suspect", title: `Doubtful: ${why}` }, "?")) : link;
};

// Beside commands, once.
ptgq.reach = "Commands run in a clone. Where nox is not found there: python3 -m venv .venv && " +
  ".venv/bin/python -m pip install nox, then .venv/bin/nox in its place.";

// asv matches a regular expression; a dot stands for a quote, so that the shell needs no escapes.
ptgq.asvCommand = function (read) {
  const benchmark = ptgq.benchmark(read.name);
  const plain = ptgq.combination(read.name, read.index);
  const stored = benchmark.names.map((name, axis) =>
    benchmark.params[axis].find((value) => ptgq.plain(value) === plain[name]),
  );
  const entry = stored.length ? `${read.name}(${stored.join(", ")})` : read.name;
  const pattern = entry.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&").replace(/['"]/g, ".");
  const commit = ptgq.front.commits[read.at][0];
  return `nox -s track -- '${format.hash(commit)}^!' --all --dry-run --bench '^${pattern}$'`;
};

ptgq.tableCommand = function ({ tokens, hidden, group, formatName, device, method, state, silu }) {
  const parts = [
    "nox -s bench --",
    `--shape ${tokens}x${hidden} --group-size ${group}`,
    formatName === "int8" ? "--dtype int8" : `--dtype fp8 --scales ${formatName.replace(/^fp8_/, "")}`,
  ];
  if (silu) parts.push("--silu");
  if (device === "cpu") parts.push("--device cpu");
  if (method === "graph") parts.push(`--method graph --${state}`);
  return parts.join(" ") + " --bandwidth";
};

ptgq.geometricMean = function (numbers) {
  if (!numbers.length) return null;
  return Math.exp(numbers.reduce((sum, number) => sum + Math.log(number), 0) / numbers.length);
};

ptgq.heads = (names, attributes) =>
  el("tr", {}, ...names.map((name, place) =>
    el("th", { scope: "col", class: place === 0 ? "text" : null, ...(attributes || {}) }, name)));

// A labelled <select> of plain values; `change` gets the new value.
ptgq.select = function (label, values, current, change) {
  const list = el("select", {}, ...values.map((value) => {
    const [key, text] = Array.isArray(value) ? value : [value, value];
    return el("option", { value: key, selected: key === current }, text);
  }));
  list.addEventListener("change", () => change(list.value));
  return el("label", {}, label, list);
};

// Which commit a section's numbers are of, and when that was measured, by benchmark where they differ.
ptgq.measuredNote = function (machine, names) {
  const { measured, commit } = ptgq.front.machines[machine];
  const known = new Map();
  for (const name of names.filter((one) => measured[one])) {
    const [at, time] = measured[name];
    const key = `${at} ${time ? format.date(time) : ""}`;
    if (!known.has(key)) known.set(key, { at, time, names: [] });
    known.get(key).names.push(name);
  }
  const found = [...known.values()];
  return el("p", { class: "note measured" }, ...found.flatMap(({ at, time, names: those }, place) => [
    place ? "; " : "Numbers of ", ptgq.commitLink(at), at === commit ? "" : ", not of the newest commit",
    time ? `, measured on ${format.date(time)}` : "",
    found.length > 1 ? ` (${those.map((name) => name.split(".").slice(0, 2).join(".")).join(", ")})` : "",
  ]), ".");
};

ptgq.section = function (id, title, ...children) {
  return el("section", { id, "aria-labelledby": `${id}-title` },
    el("h2", { id: `${id}-title`, tabindex: "-1" }, title), ...children);
};
