"use strict";
// "My shape": what a reader's own configuration takes, by the nearest measured one, on each machine.
// Bytes a second of a GPU's memory, by the name that its driver gives, as its maker states them.
ptgq.PEAKS = {
  "NVIDIA H200": { rate: 4.8e12, source: "NVIDIA H200 Tensor Core GPU datasheet: 4.8 TB/s" },
  "NVIDIA H100 80GB HBM3": { rate: 3.35e12, source: "NVIDIA H100 Tensor Core GPU datasheet, SXM5: 3.35 TB/s" },
};
ptgq.peak = (machine) => ptgq.PEAKS[ptgq.fact(machine, "gpu")] || null;
ptgq.peakNote = function (machines) {
  const known = [...new Set(machines.map(ptgq.peak).filter(Boolean).map((peak) => peak.source))];
  return known.length ? `% of peak: all that is read and all that is written, once, over the time and the memory's peak bandwidth as NVIDIA states it (${known.join("; ")}).` : "";
};
ptgq.percentOfPeak = function (machine, bytes, time) {
  const peak = ptgq.peak(machine);
  return peak && time.state === "value" ? format.percent(bytes / time.value / peak.rate) : "–";
};

ptgq.FUNCTIONS = { quant: "per_token_group_quant", silu: "silu_and_mul_per_token_group_quant" };

// Every configuration that a machine's kernel times, or a CPU's calls, are of, with where each stands.
ptgq.configurations = function () {
  const sources = [
    ["kernel_time.KernelTime.track_serving_shapes", "copy_distance.DistanceToCopy.track_serving_shapes"],
    ["kernel_time.KernelTime.track_variants", "copy_distance.DistanceToCopy.track_variants"],
    ["kernel_time.KernelTime.track_default_shapes", "copy_distance.DistanceToCopy.track_default_shapes"],
    ["cpu_time.CpuTime.track_call", "cpu_time.CpuTime.track_copy_ratio"],
  ];
  const found = [];
  for (const [time, copy] of sources) {
    const names = ["tokens", "hidden", "group", "format", "variant"].filter((name) => ptgq.values(time, name).length);
    let rows = names.length ? [{}] : [];
    for (const name of names) rows = rows.flatMap((row) => ptgq.values(time, name).map((value) => ({ ...row, [name]: value })));
    for (const row of rows) {
      const { variants } = ptgq.front.configurations;
      if (row.variant && !variants[row.variant]) continue;
      const { group = 128, format: formatName = "fp8_row_float32", silu = false } = variants[row.variant] || row;
      found.push({
        time, copy, row, tokens: Number(row.tokens), hidden: Number(ptgq.hiddenOf(time, row)),
        group: String(group), format: formatName, function: silu ? "silu" : "quant",
      });
    }
  }
  return found;
};

// The configurations whose shape is nearest to the one asked for, by the factors between.
ptgq.nearest = function (configurations, tokens, hidden) {
  const far = (one) => Math.abs(Math.log(one.hidden / hidden)) + Math.abs(Math.log(one.tokens / tokens));
  const least = Math.min(...configurations.map(far));
  return configurations.filter((one) => far(one) === least);
};

// "1,024 × 7168", "1024X7168" or "1024 7168" as "1024x7168"; what is no shape stays as it is.
ptgq.readShape = function (text) {
  const whole = (word) => /^\d{1,3}(?:[,'_\u00a0\u202f ]\d{3})+$/.test(word) ? word.replace(/\D/g, "") : word;
  const sizes = text.trim().split(/\s*[x×*]\s*/i);
  if (sizes.length === 2) return sizes.map(whole).join("x");
  return text.trim().replace(/^(\d+)[\s,]+(\d+)$/, "$1x$2");
};

// What stands beside each other: kernels of a GPU, calls of a CPU's backends.
ptgq.KINDS = { kernel: "GPU kernels", call: "CPU calls" };
ptgq.kindOf = ({ time }) => time.startsWith("kernel_time.") ? "kernel" : "call";

ptgq.shape = function (machine) {
  const all = ptgq.configurations();
  const everywhere = ptgq.front.machines.map((_, number) => number);
  const statesOf = (one) => ptgq.values(one.time, "state").length ? ptgq.values(one.time, "state") : [null];
  const has = (number, one, state) => {
    const cells = ptgq.front.machines[number].cells[one.time] || [];
    return ptgq.values(one.time, "backend").some((backend) =>
      Array.isArray(cells[ptgq.index(one.time, { ...one.row, backend, state })]));
  };
  const measured = (number, kind) => all.some((one) => ptgq.kindOf(one) === kind && statesOf(one).some((state) => has(number, one, state)));
  // A GPU that was not measured is named, too.
  const kinds = everywhere.map((number) => Object.keys(ptgq.KINDS)
    .filter((kind) => measured(number, kind) || (kind === "kernel" && ptgq.hasGpu(number))));
  if (!everywhere.some((number) => kinds[number].some((kind) => measured(number, kind)))) return null;
  const choice = { machines: "this", function: "quant", format: "fp8_row_float32", group: "128", state: ptgq.states()[0], shape: "1024x7168" };
  const allowed = { machines: ["this", "all"], state: ptgq.states() };
  for (const key of Object.keys(choice)) choice[key] = ptgq.chosen(`shape.${key}`, choice[key], allowed[key]);
  choice.shape = ptgq.readShape(choice.shape);
  const controls = el("div", { class: "controls" });
  const body = el("div", {});
  const typed = el("input", { type: "text", size: "12", value: choice.shape.replace("x", " × "), spellcheck: "false" });
  typed.addEventListener("change", () => pick("shape", ptgq.readShape(typed.value)));

  function pick(key, value) {
    choice[key] = value;
    ptgq.choose({ [`shape.${key}`]: value });
    draw();
  }

  function draw() {
    // Each choice leaves those that the next one has.
    let left = all;
    const options = {}, replaced = [];
    for (const key of ["function", "format", "group"]) {
      options[key] = [...new Set(left.map((one) => one[key]))];
      if (!options[key].includes(choice[key])) {
        if (ptgq.address().has(`shape.${key}`)) replaced.push(`No ${key} ${choice[key]} here: ${options[key][0]} is shown.`);
        choice[key] = options[key][0];
      }
      left = left.filter((one) => one[key] === choice[key]);
    }
    const { consumers } = ptgq.front.configurations;
    const names = { function: (value) => ptgq.FUNCTIONS[value], format: (value) => consumers[value] ? `${value} (${consumers[value]})` : value, group: String };
    const lists = [["machines", "Machines", [["this", "this one"], ["all", "all"]]], ["state", "x", ptgq.states()],
      ...["function", "format", "group"].map((key) => [key, { function: "Function", format: "Format", group: "Group" }[key], options[key].map((value) => [value, names[key](value)])])];
    controls.replaceChildren(el("label", {}, "tokens × hidden", typed),
      ...lists.map(([key, label, values]) => ptgq.select(label, values, choice[key], (value) => pick(key, value))));
    const match = /^([1-9]\d*)x([1-9]\d*)$/.exec(choice.shape);
    if (!match) {
      body.replaceChildren(el("p", { class: "failed", role: "alert" }, `Not tokens × hidden: ${choice.shape}; write 1024 x 7168, say.`));
      return;
    }
    const [tokens, hidden] = [Number(match[1]), Number(match[2])];
    if (hidden % choice.group) {
      const groups = options.group.filter((size) => hidden % size === 0);
      replaced.push(`The group size ${choice.group} does not divide the hidden size ${hidden}, so that there is no such call` +
        (groups.length ? `: ${groups.join(" and ")} of the measured group sizes ${groups.length > 1 ? "do" : "does"}.` : "."));
    }
    const lines = [], used = [], said = [];
    for (const number of choice.machines === "all" ? everywhere : [machine]) {
      const { machine: name } = ptgq.front.machines[number].params;
      for (const kind of kinds[number]) {
        const state = kind === "kernel" ? choice.state : null;
        const those = left.filter((one) => ptgq.kindOf(one) === kind);
        const near = ptgq.nearest(those.filter((one) => has(number, one, state)), tokens, hidden);
        const own = near.flatMap((one) => rows(number, one));
        if (own.length) used.push(number);
        lines.push(...own);
        said.push([name, ptgq.KINDS[kind], found(number, those, near, state)]);
      }
      if (!kinds[number].length) said.push([name, "Times", "none was measured."]);
    }
    // Machines of which the same is said stand together.
    const machinesOf = new Map();
    for (const [name, kind, text] of said) {
      const key = said.length > 1 ? `${kind}: ${text}` : text;
      machinesOf.set(key, [...(machinesOf.get(key) || []), name]);
    }
    const told = [...machinesOf].map(([text, those]) => choice.machines === "all" ? `${those.join(", ")}: ${text}` : text);
    const head = ptgq.heads(["Machine", "Backend", "Tokens × hidden", "µs", "99 % interval", "% of copy", "% of peak", "Commit"]);
    head.children[1].className = "text";
    head.append(el("th", { scope: "col" }, el("span", { class: "hidden-text" }, "Details")));
    const asks = told.every((text) => text.endsWith("was measured.")) || hidden % choice.group ? null : ptgq.tableCommand({
      tokens, hidden, group: choice.group, formatName: choice.format, silu: choice.function === "silu",
      ...(ptgq.hasGpu(machine) ? { device: "cuda", method: "graph", state: choice.state } : { device: "cpu" }),
    });
    body.replaceChildren(
      el("div", { class: "nearest", role: "status" }, ...[...replaced, ...told].map((text) => el("p", {}, text))),
      ...(lines.some((line) => line.querySelector(".suspect")) ? [el("p", { class: "suspects" }, "“?” is doubtful: a neighbour, or its own interval, contradicts it more than tenfold; ••• says which.")] : []),
      lines.length ? ptgq.table("shape", "My shape", [head], lines) : "",
      asks ? el("p", { class: "note" }, `To measure ${tokens} × ${hidden} on your own machine: `, el("code", {}, asks)) : "",
      el("p", { class: "note" }, ptgq.peakNote(used)));

    // What a machine has of the choice: it, another shape, or why nothing is shown.
    function found(number, those, near, state) {
      const asked = `${tokens} × ${hidden}`;
      const shapes = [...new Set(near.map((one) => `${one.tokens} × ${one.hidden}`))].join(", ");
      if (shapes) return shapes === asked ? `${asked} was measured.` : `${asked} was not measured: the nearest is ${shapes}.`;
      const known = statesOf(those[0] || all[0]).filter((other) => those.some((one) => has(number, one, other)));
      const what = `${choice.function === "silu" ? `${ptgq.FUNCTIONS.silu} in ` : ""}${choice.format}, group ${choice.group}`;
      if (known.length) return `${what} was not measured with x ${state}, so that nothing is shown: x ${known.join(" and ")} was.`;
      return `${what} was not measured by the benchmarks as they are now, so that nothing is shown.`;
    }
  }

  function rows(number, one) {
    const { params } = ptgq.front.machines[number];
    const bytes = ptgq.bytes(one.tokens, one.hidden, one.group, one.format, one.function === "silu");
    const state = ptgq.values(one.time, "state").length ? choice.state : null;
    return ptgq.values(one.time, "backend").flatMap(function (backend) {
      const time = ptgq.cell(number, one.time, { ...one.row, state, backend });
      if (!["value", "failed"].includes(time.state)) return [];
      const same = ptgq.measuredAt(number, one.time) === ptgq.measuredAt(number, one.copy);
      const copy = ptgq.cell(number, one.copy, same ? { ...one.row, state, backend } : -1);
      const name = ptgq.backendNames[backend] || backend;
      const title = `${name}, ${one.tokens} × ${one.hidden}, group ${one.group}, ${one.format}${state ? `, x ${state}` : ""}`;
      const command = ptgq.tableCommand({
        ...one, formatName: one.format, device: state ? "cuda" : "cpu", method: state ? "graph" : "events", state,
        silu: one.function === "silu",
      });
      const ends = time.state === "value" && time.low !== null && time.high !== null;
      return [el("tr", {}, el("th", { scope: "row" }, params.machine), el("td", { class: "text" }, name),
        el("td", {}, `${one.tokens} × ${one.hidden}`),
        el("td", {}, ptgq.show(time, format.micro)),
        el("td", {}, ends ? `${format.micro(time.low)} to ${format.micro(time.high)}` : "–"),
        el("td", {}, ptgq.show(copy, (value) => format.percent(1 / value))),
        // The peak is the GPU memory's: calls of a CPU have none.
        el("td", {}, state ? ptgq.percentOfPeak(number, bytes, time) : "–"),
        el("td", {}, ptgq.commitLink(time.at)),
        ptgq.more(title, [{ label: `${name}, time`, read: time }, { label: `${name}, time / copy time`, read: copy }], command))];
    });
  }

  draw();
  return ptgq.section("shape", "My shape",
    el("p", { class: "note" }, "Kernel time of your configuration; on a CPU, the time of a call, of x as the call before left it. " +
      "••• holds the command that measures a row again. % of copy: a same-bytes copy's time over this one, of the same run. " +
      ptgq.ABOVE_COPY),
    controls, body);
};
