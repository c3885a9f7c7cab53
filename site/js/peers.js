"use strict";
// "Which implementation": ptgq beside the others that were installed, of one shape, format and state.
ptgq.PEERS = {
  times: ["peers.Peers.track_serving_shapes", "peers.Peers.track_default_shapes"],
  codes: "peers.PeerExactness.track_differing_codes",
  scales: "peers.PeerExactness.track_differing_scales",
  error: "peers.PeerExactness.track_relative_rms_error",
  masked: "peers.Peers.track_masked_rows",
};
ptgq.PEER_FUNCTIONS = { ...ptgq.FUNCTIONS, masked: "masked_m", masked_silu: "masked_m, silu_and_mul" };
ptgq.isOwn = (name) => name === "ptgq" || name.startsWith("ptgq-");

// Every configuration that the family has, each with its row's parameters, and its place in the map.
ptgq.peerConfigurations = function () {
  const { variants, masked } = ptgq.front.configurations;
  const matrices = ptgq.PEERS.times.flatMap(function (name) {
    const hidden = ptgq.values(name, "hidden");
    return ptgq.values(name, "tokens").flatMap((tokens) => (hidden.length ? hidden : [null]).flatMap((width) =>
      ptgq.values(name, "variant").filter((variant) => variants[variant]).map(function (variant) {
        const row = { tokens, variant, ...(width ? { hidden: width } : {}) };
        const { group, format: formatName, silu } = variants[variant];
        const at = [Number(tokens), Number(ptgq.hiddenOf(name, row))];
        return { name, row, variant, at, shape: at.join("x"), group: String(group), format: formatName, function: silu ? "silu" : "quant" };
      })));
  });
  const name = ptgq.PEERS.masked;
  const batches = ptgq.values(name, "variant").filter((variant) => variant in masked.variants).flatMap((variant) =>
    ptgq.values(name, "counts").map((counts) => ({
      name, row: { counts, variant }, variant, at: [counts, masked.shape[2]], shape: counts, group: String(masked.group), format: masked.format,
      function: masked.variants[variant] ? "masked_silu" : "masked",
    })));
  return [...matrices, ...batches];
};
// Masked rows are measured in one: one call after the other.
ptgq.peerStates = (one) => one.name === ptgq.PEERS.masked ? ["hot"] : ptgq.values(one.name, "state");

// What each implementation takes in one configuration and state, the fastest first.
ptgq.peerTimes = function (machine, one, state) {
  if (!ptgq.peerStates(one).includes(state)) return [];
  return ptgq.values(one.name, "implementation")
    .map((implementation) => ({
      implementation,
      time: ptgq.cell(machine, one.name, { ...one.row, implementation, state }),
      codes: ptgq.cell(machine, ptgq.PEERS.codes, { implementation, variant: one.variant }),
      scales: ptgq.cell(machine, ptgq.PEERS.scales, { implementation, variant: one.variant }),
      error: ptgq.cell(machine, ptgq.PEERS.error, { implementation, variant: one.variant }),
    }))
    .filter(({ time }) => time.state === "value")
    .sort((a, b) => a.time.value - b.time.value);
};

ptgq.isExact = ({ codes, scales }) => codes.value === 0 && scales.value === 0;
// All that can't be told from the fastest: their intervals reach into its own, or are open.
ptgq.fastestExact = function (times) {
  const exact = times.filter(ptgq.isExact);
  const until = exact.length && exact[0].time.high !== null ? exact[0].time.high : Infinity;
  return exact.filter(({ time }, place) => place === 0 || time.low === null || time.low <= until);
};

// Its version and day at a commit, or why it has no number; ptgq's is the commit.
ptgq.peerVersion = function (machine, implementation, at) {
  const { commit, known, then } = ptgq.front.machines[machine].peers;
  if (ptgq.isOwn(implementation)) return at === commit ? "this commit" : ptgq.commitLink(at);
  const one = ((then || {})[at] || known || {})[implementation];
  if (!one) return "version unknown";
  return one.version ? `${one.version}, ${one.measured}` : one.missing;
};

ptgq.peers = function (machine) {
  const configurations = ptgq.peerConfigurations();
  const states = [...new Set(configurations.flatMap(ptgq.peerStates))];
  const has = (one, state) => ptgq.peerTimes(machine, one, state).length > 0;
  const measured = configurations.filter((one) => states.some((state) => has(one, state)));
  if (!measured.length) return null;
  // Kernels first, as everywhere; a CPU has calls alone.
  const known = [...states.slice(1), states[0]].filter((state) => measured.some((one) => has(one, state)));
  const choice = { state: known[0], function: "quant", format: "fp8_row_float32", group: "128", shape: "1024x7168" };
  for (const key of Object.keys(choice)) choice[key] = ptgq.chosen(`peers.${key}`, choice[key], key === "state" ? known : null);
  const controls = el("div", { class: "controls" });
  const body = el("div", {});
  let shown;

  function pick(key, value) {
    choice[key] = value;
    ptgq.choose({ [`peers.${key}`]: value });
    draw();
  }

  function draw() {
    // Each choice leaves those of the next that were measured; what was chosen before comes back.
    let left = measured;
    const options = {};
    shown = { ...choice };
    for (const key of ["function", "state", "format", "group", "shape"]) {
      const all = key === "state" ? known.filter((state) => left.some((one) => has(one, state))) : left.map((one) => one[key]);
      options[key] = [...new Set(all)];
      if (!options[key].includes(shown[key])) {
        const named = ptgq.address().get(`peers.${key}`);
        if (named !== null) ptgq.replaced(`peers.${key}`, `peers.${key}=${named} was not measured with the other choices: ${options[key][0]} is shown.`);
        shown[key] = options[key][0];
      }
      // The shapes stay, for the map.
      if (key === "state") left = left.filter((one) => has(one, shown.state));
      else if (key !== "shape") left = left.filter((one) => one[key] === shown[key]);
    }
    const { consumers, masked } = ptgq.front.configurations;
    const labels = {
      function: ["Function", (value) => ptgq.PEER_FUNCTIONS[value]],
      format: ["Format", (value) => consumers[value] ? `${value} (${consumers[value]})` : value],
      group: ["Group", String],
      shape: ofBatches() ? ["Rows that exist", (value) => `${value} of ${masked.shape.join(" × ")}`]
        : ["tokens × hidden", (value) => value.replace("x", " × ")],
    };
    controls.replaceChildren(
      ptgq.select("Time", options.state.map((state) => [state, state === "call" ? "call latency" : `kernel, x ${state}`]), shown.state, (value) => pick("state", value)),
      ...Object.entries(labels).map(([key, [label, text]]) =>
        ptgq.select(label, options[key].map((value) => [value, text(value)]), shown[key], (value) => pick(key, value))));
    const one = left.find(({ shape }) => shape === shown.shape);
    body.replaceChildren(bars(one), map(left), absent());
  }

  function ofBatches() {
    return shown.function.startsWith("masked");
  }

  function bars(one) {
    const times = ptgq.peerTimes(machine, one, shown.state);
    const longest = Math.max(...times.map(({ time }) => time.value));
    const own = times.find(({ implementation }) => ptgq.isOwn(implementation));
    const best = ptgq.fastestExact(times);
    const rows = times.map(function (entry) {
      const { implementation, time, codes, scales, error } = entry;
      const strip = el("i", { "aria-hidden": "true", class: ptgq.isOwn(implementation) ? null : "other" });
      strip.style.width = ptgq.barWidth(time.value / longest);
      const ends = time.low !== null && time.high !== null;
      const mark = best.length > 1 ? " fastest exact?" : " fastest exact";
      return el("tr", { class: best.includes(entry) ? "fastest" : null },
        el("th", { scope: "row" }, implementation, best.includes(entry) ? el("strong", { class: "better" }, mark) : null),
        el("td", { class: "text quiet" }, ptgq.peerVersion(machine, implementation, time.at)),
        el("td", { class: "bar" }, strip, el("span", {}, ptgq.show(time, format.micro))),
        el("td", {}, ends ? `${format.micro(time.low)} to ${format.micro(time.high)}` : "–"),
        el("td", {}, own ? format.times(time.value / own.time.value) : "–"),
        el("td", {}, ptgq.show(codes, (value) => format.unit(value, ""))),
        el("td", {}, ptgq.show(scales, (value) => format.unit(value, ""))),
        el("td", {}, ptgq.show(error, format.decibel)));
    });
    const head = ptgq.heads(["Implementation", "Version", "µs", "99 % interval", "× ptgq", "Codes differ", "Scales differ", "SNR"]);
    for (const column of [...head.children].slice(1, 3)) column.className = "text";
    const command = ptgq.peerCommand(machine, one);
    return el("div", {}, ptgq.measuredNote(machine, [one.name]),
      ptgq.table("peers", "Which implementation", [head], rows),
      el("p", { class: "note" }, "To measure this on your own machine, beside the implementations that are installed there: ", el("code", {}, command)));
  }

  // Who is fastest among the exact, over the shapes of one format.
  function map(left) {
    // Counts have names, and an order of their own.
    const sizes = (axis) => [...new Set(left.map(({ at }) => at[axis]))].sort((a, b) => a - b || 0);
    const head = ptgq.heads([ofBatches() ? "Rows that exist" : "Tokens", ...sizes(1).map((hidden) => `hidden ${hidden}`)], { class: "text" });
    const rows = sizes(0).map((tokens) => el("tr", {}, el("th", { scope: "row" }, String(tokens)), ...sizes(1).map(function (hidden) {
      const one = left.find(({ at }) => at[0] === tokens && at[1] === hidden);
      const times = one ? ptgq.peerTimes(machine, one, shown.state) : [];
      const best = ptgq.fastestExact(times);
      if (!best.length) return el("td", { class: "na text" }, "–");
      const own = times.find(({ implementation }) => ptgq.isOwn(implementation));
      const behind = own ? (best.includes(own) ? 1 : own.time.value / best[0].time.value) : null;
      // 0 to 4: how far ptgq is behind, in steps of 5 %.
      const step = behind === null ? 0 : Math.min(4, Math.ceil((behind - 1) * 20));
      return el("td", { class: `text heat heat-${step}`, "data-sort": behind },
        el("button", { type: "button", "aria-pressed": String(one.shape === shown.shape), onclick: () => pick("shape", one.shape) },
          best.map(({ implementation }) => implementation).join(" or "), behind > 1 ? ` (ptgq ×${behind.toFixed(2)})` : ""));
    })));
    return el("div", {}, el("h3", {}, "The fastest exact one, by shape"),
      ptgq.table("peers.map", "The fastest exact implementation by shape", [head], rows, { kind: "map" }));
  }

  function absent() {
    const { known: versions } = ptgq.front.machines[machine].peers;
    const missing = Object.entries(versions || {}).filter(([, one]) => one.missing);
    return missing.length ? el("p", { class: "note" }, "Not measured here: ", missing.map(([name, one]) => `${name} (${one.missing})`).join(", "), ".") : "";
  }

  draw();
  return ptgq.section("peers", "Which implementation",
    el("p", { class: "note" }, "ptgq beside other implementations, each called by its own public function, all alternating in one process. " +
      "Fastest exact?: undecided, as their 99 % intervals reach into the fastest one's. " +
      "Codes and scales that differ from the numerics contract are of 1024 × 7168, in the same format: another rounding may be legitimate, " +
      "which the signal-to-noise ratio shows; of masked rows those that exist are compared, and the scales of others are zeros by ptgq and vLLM, while SGLang leaves them. A version with +kernels or +casts is a part of the release, by its own loader."),
    controls, body);
};

ptgq.peerCommand = function (machine, one) {
  if (one.name === ptgq.PEERS.masked) return "nox -s track -- main --newest 1 --all --bench peers";
  const [tokens, hidden] = one.shape.split("x");
  const command = ptgq.tableCommand({
    tokens, hidden, group: one.group, formatName: one.format, device: ptgq.hasGpu(machine) ? "cuda" : "cpu", silu: one.function === "silu",
  });
  return command.replace(" --bandwidth", " --against all");
};
