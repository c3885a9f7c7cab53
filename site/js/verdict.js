"use strict";
// The rule of asv_plugins/verdict.py, for pairs that are chosen here; a test compares the two.
ptgq.verdict = function (before, after, threshold, drift) {
  if (after.low > before.high && after.value > before.value * (1 + Math.max(threshold, drift))) return "worse";
  const least = Math.min(1 - threshold, 1 / (1 + drift));
  if (after.high < before.low && after.value < before.value * least) return "better";
  if (after.high <= before.low * (1 + threshold) && after.low >= before.high * (1 - threshold)) return "same";
  return "undecided";
};

ptgq.smallestChange = function (before, after, threshold, drift) {
  if (before.value === 0) return 0;
  const apart = (before.high - before.value + after.value - after.low) / Math.abs(before.value);
  return Math.max(apart, threshold, drift);
};

// What nine in ten of [before, after] of equal code differ by; 0 of a few.
ptgq.driftOf = function (pairs) {
  const changes = pairs.filter(([before, after]) => before.value && after.value)
    .map(([before, after]) => Math.abs(Math.log(after.value / before.value))).sort((a, b) => a - b);
  if (changes.length < 10) return 0;
  const place = 9 * (changes.length + 1);
  const after = Math.min(Math.max(Math.floor(place / 10), 1), changes.length - 1);
  const part = place - 10 * after;
  return Math.expm1((changes[after - 1] * (10 - part) + changes[after] * part) / 10);
};

// A stored cell as numbers: an open end is infinite. Null is no number.
ptgq.ends = function (stored) {
  if (typeof stored !== "number" && !Array.isArray(stored)) return null;
  const { value, low, high } = ptgq.measurement(stored);
  return { value, low: low === null ? -Infinity : low, high: high === null ? Infinity : high };
};

// Backends whose machine code and launches are the same at two commits; of one machine alone.
ptgq.sameCode = function (rules, [one, before], [other, after]) {
  const launches = [before, after].map(({ commit }) => rules.launches[commit]);
  if (one !== other || !launches[0] || launches[0] !== launches[1]) return new Set();
  return new Set(Object.keys(rules.hashes).filter(function (backend) {
    const [old, now] = [before, after].map(({ cells }) => cells[rules.hashes[backend]] || []);
    const both = old.map((value, index) => [value, now[index]]).filter((pair) => pair.every((value) => typeof value === "number"));
    return both.length > 0 && both.every(([a, b]) => a === b);
  }));
};

// Rows as of ptgq.changed, of two [machine, {commit, cells}]: what both measured, or one failed.
ptgq.compared = function (rules, before, after) {
  const same = ptgq.sameCode(rules, before, after);
  const [machine, { commit, cells }] = after;
  const rows = [];
  for (const [name, now] of Object.entries(cells)) {
    const old = before[1].cells[name];
    if (!old || Object.values(rules.hashes).includes(name)) continue;
    if (before[0] !== machine && ptgq.ofCompilers(name)) continue;
    const { thresholds, timed, control } = rules.benchmarks[name];
    const pairs = now.map((stored, index) => [ptgq.ends(old[index]), ptgq.ends(stored)]);
    const facts = [before, after].map(([number, side]) => ptgq.factsAt(number, side.commit));
    const counts = (place) => [before, after].map(([, side]) => (side.cells[ptgq.KERNEL_COUNT] || [])[place]);
    // The control's changes are one machine's drift; of two machines there is none to take off.
    const drift = before[0] === machine ? ptgq.driftOf(control.map((index) => pairs[index]).filter(([a, b]) => a && b)) : 0;
    pairs.forEach(function ([a, b], index) {
      const failed = [old[index], now[index]].map((stored) => stored === "failed");
      if (!(a && b) && !(failed[0] && b) && !(failed[1] && a)) return;
      const read = {
        machine, name, index, at: commit, previous: before[1].commit, state: b ? "value" : "failed", fixed: failed[0],
        ...(b ? ptgq.measurement(now[index]) : {}), before: a ? ptgq.measurement(old[index]) : null, smallest: null,
      };
      const threshold = Array.isArray(thresholds) ? thresholds[index] : thresholds;
      const judged = a && b && threshold !== null;
      if (judged) {
        const smallest = ptgq.smallestChange(a, b, threshold, drift);
        read.smallest = Number.isFinite(smallest) ? smallest : null;
      }
      const kernels = (timed && timed[index]) || [];
      const isSame = kernels.length > 0 && kernels.every((backend) => same.has(backend));
      rows.push({
        read, ratio: a && b ? b.value / a.value : null,
        verdict: failed[1] ? "failed" : failed[0] ? "fixed" : !judged ? "not judged" : isSame ? "same code"
          : before[0] === machine ? ptgq.settled(ptgq.verdict(a, b, threshold, drift), name, index, facts, counts)
            : ptgq.verdict(a, b, threshold, drift),
      });
    });
  }
  return ptgq.ranked(rows);
};
