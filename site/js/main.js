"use strict";
// Put the page together for the machine that the address names: #machine=NAME&at=SECTION.
(function () {
  const front = ptgq.front;
  const state = ptgq.address;
  const address = (machine, at) =>
    "#" + new URLSearchParams({ machine: front.machines[machine].params.machine, ...(at ? { at } : {}) });

  // Links made for asv's page when it was index.html (its own feed's, too) still arrive.
  ptgq.forAsv = function () {
    let place = location.hash.replace(/^#\/?/, "").split("?")[0];
    try {
      place = decodeURIComponent(place);
    } catch {
      // No address of asv's: what this page makes of it is said.
    }
    return location.hash.startsWith("#/") || ["summarylist", "regressions"].includes(place) ||
      ptgq.benchmarkNumber(place) >= 0;
  };

  ptgq.commitLink = function (position) {
    const hash = front.commits[position][0];
    const base = front.show_commit_url;
    return /^https?:\/\//.test(base) ? el("a", { href: base + hash }, format.hash(hash)) : el("code", {}, format.hash(hash));
  };

  function label(machine) {
    const { params } = front.machines[machine];
    const same = front.machines.filter((other) => other.params.machine === params.machine);
    // The same machine twice: what tells its configurations apart (torch, driver, ...).
    const apart = same.length > 1
      ? Object.keys(params).filter((key) => same.some((other) => other.params[key] !== params[key]))
        .map((key) => `${key} ${params[key] || "none"}`)
      : [];
    return [params.machine, ptgq.fact(machine, "gpu") || params.cpu, ...apart].filter(Boolean).join(" · ");
  }

  ptgq.machineLabel = label;

  function facts(machine) {
    const { params, commit, behind } = front.machines[machine];
    const [hash, time, subject] = front.commits[commit];
    const known = ["gpu", "driver", "cuda", "torch", "triton", "python", "cpu", "num_cpu", "ram", "os"];
    const keys = [...known, ...Object.keys(params).filter((key) => !known.includes(key) && key !== "machine")];
    return [
      el("p", { class: "commit" }, "Newest measured commit ", ptgq.commitLink(commit), ` of ${format.date(time)}: `,
        el("strong", {}, subject), el("span", { class: "hidden-text" }, ` (${hash})`),
        behind ? `, ${behind} ${behind === 1 ? "commit" : "commits"} behind ${front.branch}.` : `, the newest of ${front.branch}.`),
      el("dl", { class: "facts" }, ...keys.filter((key) => ptgq.fact(machine, key)).map((key) =>
        el("div", {}, el("dt", {}, key), el("dd", {}, key === "ram" ? format.memory(params.ram) : params[key])))),
      ...canary(machine),
      tiles(machine),
    ];
  }

  // What moved code that can't change: the machine, the driver, torch or the compiler.
  function canary(machine) {
    const found = front.machines[machine].canary;
    if (!found) return [];
    const moved = Object.entries(found.runs.at(-1).moved).map(([name, change]) =>
      `${name} ${change < 0 ? "−" : "+"}${format.percent(Math.abs(change))}`);
    const since = `${format.date(found.runs[0].date)}, ${found.runs.length} runs`;
    const differs = found.runs.filter((run) => run.differs.length)
      .map((run) => `${format.date(run.date)}: ${run.differs.join(", ")}`);
    // The newest commit and the canary need not have been measured on the same day.
    const { environment } = found;
    const { params } = front.machines[machine];
    const text = (key, value) => key === "ram" ? format.memory(value) : value || "none";
    const apart = Object.keys(params).filter((key) => key in environment && (environment[key] || "none") !== (params[key] || "none"))
      .map((key) => `${key} ${text(key, environment[key])}, the newest commit ${text(key, params[key])}`);
    return [el("p", { class: "canary" }, `The canary, ${format.hash(found.commit)} measured in every run, `,
      moved.length ? `moved ${moved.join(", ")} since ${since}.` : `ran once, on ${since.slice(0, 10)}.`,
      differs.length ? ` What changed between its runs: ${differs.join("; ")}.` : "",
      apart.length ? ` Its last run had ${apart.join("; ")}.` : "")];
  }

  function tiles(machine) {
    const [fast, slow] = ptgq.pair(machine).map((backend) => ptgq.backendNames[backend]);
    const found = [];
    const mean = function (name, fixed, what) {
      const ratios = ptgq.compare(machine, name, fixed).map((entry) => entry.ratio).filter((ratio) => ratio !== null);
      if (ratios.length) found.push([format.times(ptgq.geometricMean(ratios)), `${what}: ${slow} / ${fast}, geometric mean of ${ratios.length}`]);
    };
    mean(ptgq.CALL, {}, "Call latency");
    mean(ptgq.KERNEL, { state: ptgq.states()[0] }, `Kernel time, ${ptgq.states()[0]}`);
    const identity = Object.values(ptgq.identities(machine));
    if (identity.length) {
      const wrong = identity.reduce((sum, tally) => sum + tally.differ.length + tally.failed.length, 0);
      const right = identity.reduce((sum, tally) => sum + tally.same, 0);
      found.push([`${right} of ${right + wrong}`, "byte-identity checks agree"]);
    }
    const rows = ptgq.changed(machine);
    // What is timed was timed in one process a commit: only rounds confirm that it is slower.
    const timed = ({ read }) => read.low !== read.high;
    const count = (wanted) => String(rows.filter(wanted).length);
    if (rows.length) {
      found.push([count((row) => row.verdict === "failed" || (row.verdict === "worse" && !timed(row))),
        `failed or, counted, worse since ${ptgq.previous(machine).map(([earlier, later]) =>
          `${format.hash(front.commits[earlier][0])}, ${ptgq.between(earlier, later)}`).join("; or ")}`]);
      found.push([count((row) => row.verdict === "worse" && timed(row)), "times to confirm by nox -s compare: longer, in one process each"]);
      found.push([count(({ verdict }) => ["better", "fixed"].includes(verdict)), "shorter, better or repaired, not confirmed where timed"]);
    }
    return el("div", { class: "tiles" }, ...found.map(([number, text]) =>
      el("div", { class: "tile" }, el("b", {}, number), el("span", {}, text))));
  }

  function show() {
    if (ptgq.served && ptgq.forAsv()) {
      location.replace("asv.html" + location.hash);
      return;
    }
    // Without a name, the first: one with a GPU, if there is any. Whoever has just measured finds theirs.
    const times = front.machines.map((_, number) => ptgq.lastMeasured(number));
    const usual = front.opens === "measured" ? times.indexOf(Math.max(...times)) : 0;
    const names = front.machines.map(({ params }) => params.machine);
    const name = ptgq.chosen("machine", names[usual], names,
      (value) => `No results of a machine named ${value}: this is ${names[usual]}.`);
    const machine = name === names[usual] ? usual : names.indexOf(name);
    // Sections read their choices when they are made; the series and the place are set below.
    if (choices(machine) !== shown) {
      const top = window.scrollY;
      shown = choices(machine);
      render(machine);
      if (asked !== null) window.scrollTo(0, top);
    }
    const series = ptgq.namedSeries(machine, state());
    if (series && front.machines[machine].histories.includes(series.name)) ptgq.openHistory(series);
    else {
      if (asked && ptgq.openHistory) ptgq.openHistory(null);
      if (state().has("series")) {
        const named = [state().get("series"), ...state().getAll("value")].join(", ");
        ptgq.replaced("series", `There is no history of ${named} on ${name}: its usual one is shown.`);
      }
    }
    asked = series ? series.name : "";
    const at = state().get("at");
    const target = [...document.querySelectorAll("#sections > section")].find(({ id }) => id === at);
    if (target) {
      target.scrollIntoView();
      target.querySelector("h2").focus({ preventScroll: true });
    } else if (at) ptgq.replaced("at", `There is no section ${at} of ${name}: this is the page's top.`);
    ptgq.sayUnknown();
  }

  // What is drawn: the machine with its choices, and the series of the history.
  let shown = null;
  let asked = null;
  function choices(machine) {
    const made = state();
    for (const key of ["machine", "at", "series", "value"]) made.delete(key);
    return `${machine} ${made}`;
  }
  document.addEventListener("chosen", function () {
    if (shown !== null) shown = choices(shown.split(" ")[0]);
    asked = state().get("series") || "";
  });

  function render(machine) {
    ptgq.openHistory = null;
    ptgq.machineName = front.machines[machine].params.machine;
    document.getElementById("machines").replaceChildren(...front.machines.map((_, number) =>
      el("button", {
        type: "button", "aria-pressed": String(number === machine),
        onclick: () => { ptgq.choose({ machine: front.machines[number].params.machine, at: "" }); show(); },
      }, label(number))));
    document.getElementById("machine").replaceChildren(...facts(machine));
    const sections = [
      ptgq.shape(machine), ptgq.peers(machine),
      // What is served first, the small default shapes last.
      ...ptgq.bandwidths.filter(({ id }) => id !== "default-bandwidth").map((spec) => ptgq.bandwidth(machine, spec)),
      ptgq.besideGemm(machine), ptgq.speedup(machine),
      ...ptgq.bandwidths.filter(({ id }) => id === "default-bandwidth").map((spec) => ptgq.bandwidth(machine, spec)),
      ptgq.functions(machine), ptgq.changes(machine), ptgq.compareSection(machine), ptgq.historySection(machine), ptgq.accuracy(machine),
      ptgq.identity(machine), ptgq.footprint(machine),
    ].filter(Boolean);
    document.getElementById("sections").replaceChildren(...sections);
    document.getElementById("contents").replaceChildren(...sections.map((section) =>
      el("a", { href: address(machine, section.id) }, section.querySelector("h2").textContent)));
    for (const section of sections) if (section.drawn) section.drawn();
  }

  if (!ptgq.served) {
    document.querySelector(".top nav").replaceChildren(
      el("span", { class: "quiet" }, "asv's pages need a server: ", el("code", {}, "nox -s site -- --serve")));
  }
  if (!front.machines.length) {
    document.getElementById("sections").replaceChildren(
      el("p", {}, `No results of ${front.branch}'s commits are stored yet.`));
  } else {
    window.addEventListener("hashchange", show);
    window.addEventListener("popstate", show);
    show();
  }
  document.getElementById("footer").textContent =
    `Branch ${front.branch}, ${front.commits.length} measured commits, published ${new Date(front.published * 1000).toISOString().slice(0, 16).replace("T", " ")} UTC. ${ptgq.reach}`;
  document.documentElement.dataset.ready = "true";
})();
