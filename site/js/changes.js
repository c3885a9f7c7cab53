"use strict";
// What changed since the previous measured commit, with the verdict that asv_plugins/verdict.py gave.
ptgq.VERDICTS = ["failed", "worse", "better", "fixed", "undecided", "same", "same code", "other kernels", "other CPUs", "not judged"];

// Time and time ratios get faster or slower; bytes, registers and errors better or worse.
ptgq.verdictWord = function (verdict, unit) {
  const timed = unit === "seconds" || unit.includes("/");
  return (timed && { worse: "slower", better: "faster" }[verdict]) || verdict;
};

ptgq.changed = function (machine) {
  const rows = [];
  for (const name of Object.keys(ptgq.front.machines[machine].cells)) {
    ptgq.front.machines[machine].cells[name].forEach(function (stored, index) {
      if (!Array.isArray(stored)) return;
      const read = ptgq.cell(machine, name, index);
      const verdict = read.state === "failed" ? "failed" : read.fixed ? "fixed" : read.verdict;
      if (!verdict) return;
      const ratio = read.state === "value" && read.before ? read.value / read.before.value : null;
      rows.push({ read, verdict, ratio });
    });
  }
  return ptgq.ranked(rows);
};

// The commits that the newest ones of a machine's benchmarks are compared with: [earlier, later].
ptgq.previous = function (machine) {
  const later = ptgq.front.machines[machine].commit;
  return [...new Set(Object.values(ptgq.front.machines[machine].previous))].sort((a, b) => a - b).map((earlier) => [earlier, later]);
};

ptgq.ranked = function (rows) {
  // Failures, times, ratios of times, then what is counted; of these by verdict, then the largest
  // change first; from or to 0 is larger than every ratio.
  const units = new Map(ptgq.front.benchmarks.map(({ name, unit }) => [name, unit]));
  const kind = (unit) => unit === "seconds" ? 0 : unit.includes("/") ? 1 : 2;
  const rank = ({ verdict, read }) => verdict === "failed" ? -1
    : kind(units.get(read.name)) * ptgq.VERDICTS.length + ptgq.VERDICTS.indexOf(verdict);
  const size = (row) => row.ratio > 0 ? Math.min(Math.abs(Math.log(row.ratio)), 1e9) : row.ratio === null ? 0 : 1e9;
  return rows.sort((a, b) => rank(a) - rank(b) || size(b) - size(a));
};

ptgq.seriesTitle = function (read) {
  const values = ptgq.words(read.name, ptgq.combination(read.name, read.index)).join(", ");
  return values ? `${ptgq.title(read.name)}: ${values}` : ptgq.title(read.name);
};

// The smallest slow-down that the intervals would have let be called.
ptgq.smallestText = function (read) {
  if (read.smallest === null) return "none";
  const percent = 100 * read.smallest;
  return percent === 0 ? "any" : `${percent < 10 ? percent.toPrecision(2) : Math.round(percent)} %`;
};

// The rows of ptgq.ranked in a table, below buttons for the verdicts to show; `id` is in the address.
ptgq.verdictTable = function (id, all, none, shown) {
  const counts = {};
  for (const { verdict } of all) counts[verdict] = (counts[verdict] || 0) + 1;
  const usual = shown || ptgq.VERDICTS.filter((verdict) => !/^(same|not|undecided|other)/.test(verdict));
  const chosen = new Set(ptgq.chosen(`${id}.verdicts`, usual.join()).split(","));
  const wrong = [...chosen].filter((word) => ![...ptgq.VERDICTS, "none"].includes(word));
  if (wrong.length) ptgq.replaced(`${id}.verdicts`, `${id}.verdicts: ${wrong.join(", ")} is no verdict; there are ${ptgq.VERDICTS.join(", ")}, none.`);
  const body = el("div", {});

  function line({ read, verdict, ratio }) {
    const unit = ptgq.benchmark(read.name).unit;
    const number = (measured) => format.unit(measured.value, unit);
    const change = ratio === null || !Number.isFinite(ratio) ? "–" : format.change(ratio);
    const style = { worse: "worse", failed: "failed", better: "better", fixed: "better" }[verdict] || "quiet";
    const title = ptgq.seriesTitle(read);
    return el("tr", {},
      el("th", { scope: "row" }, title),
      el("td", { "data-sort": read.before ? read.before.value : "failed" }, read.before ? number(read.before) : "failed"),
      el("td", {}, ptgq.show(read, () => number(read))),
      el("td", {}, change),
      el("td", {}, read.before && read.state === "value" ? ptgq.smallestText(read) : "–"),
      el("td", { class: `text ${style}` }, ptgq.verdictWord(verdict, unit)),
      ptgq.more(title, [{ label: ptgq.title(read.name), read }]));
  }

  function draw() {
    const rows = all.filter((row) => chosen.has(row.verdict));
    const head = ptgq.heads(["Series", "before", "after", "change", "smallest", "verdict"]);
    head.lastChild.className = "text";
    head.append(el("th", { scope: "col" }, el("span", { class: "hidden-text" }, "Details")));
    body.replaceChildren(
      rows.length
        ? ptgq.table(id, "Verdicts", [head], rows.map(line), { long: true, limit: 100 })
        : el("p", {}, all.length ? "Nothing with the chosen verdicts." : none));
  }

  const filters = ptgq.VERDICTS.filter((verdict) => counts[verdict]).map(function (verdict) {
    const word = { worse: "slower or worse", better: "faster or better" }[verdict] || verdict;
    const button = el("button", {
      type: "button", "aria-pressed": String(chosen.has(verdict)),
      onclick() {
        if (!chosen.delete(verdict)) chosen.add(verdict);
        button.setAttribute("aria-pressed", String(chosen.has(verdict)));
        ptgq.choose({ [`${id}.verdicts`]: [...chosen].join() || "none" });
        draw();
      },
    }, `${counts[verdict]} ${word}`);
    return button;
  });
  draw();
  return [el("div", { class: "controls", role: "group", "aria-label": "Verdicts shown" }, ...filters), body];
};

ptgq.changes = function (machine) {
  const since = ptgq.previous(machine).flatMap(([earlier, later], place) =>
    [place ? "; " : " (", ptgq.commitLink(earlier), `, ${ptgq.between(earlier, later)}`]);
  const differ = ptgq.previous(machine).flatMap(([earlier, later]) =>
    ptgq.differing([machine, { commit: earlier }], [machine, { commit: later }]));
  return ptgq.section("changes", "What changed",
    differ.length ? el("p", { class: "differ" }, `Between them the machine changed: ${differ.join(", ")}. Times of its host, as import and calls, have no verdict then.`) : "",
    el("p", { class: "note" },
      "Against the previous measured commit", ...since, since.length ? ")" : "", ", by the 99 % intervals of the medians. " +
      "Each commit was measured once, in a process of its own: nox -s compare alternates the two and settles a doubt."),
    el("details", { class: "note" }, el("summary", {}, "What the verdicts mean"), el("p", {}, "Slower or faster: the intervals lie apart and the medians differ by more than the benchmark's " +
      "threshold. Same: even the ends of the intervals differ by no more. Undecided: the noise allows " +
      "neither, or it is no more than nine in ten of the reference's series stay within, whose code " +
      "hardly changes: the machine did. Same code: a kernel whose machine code and launch are unchanged, so " +
      "what its time did is the machine's doing. Other kernels: some were added or taken away, so their sums are no worse. " +
      "Other CPUs: the host's time on another number of them. Smallest is the slow-down from which the series' own noise would have let one be called. Ratios, calls' times, which differ between processes by half, also beside PyTorch's, and the " +
      "reference have no verdict.")),
    ...ptgq.verdictTable("changes", ptgq.changed(machine), "No earlier commit was measured here."));
};
