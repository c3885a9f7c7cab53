"use strict";
// Times that are not the code's: a row that its neighbours, or its own noise, contradict tenfold.
ptgq.TENFOLD = 10;

ptgq.suspects = function (machine, name) {
  const key = `${machine} ${name}`;
  if (!ptgq.suspects.known.has(key)) ptgq.suspects.known.set(key, find());
  return ptgq.suspects.known.get(key);

  function find() {
    const found = new Map();
    const benchmark = ptgq.benchmark(name);
    if (benchmark.unit !== "seconds" || !benchmark.names.includes("tokens")) return found;
    // Rows of one backend, state, variant and type of codes are compared: others are other code.
    const groups = new Map();
    (ptgq.front.machines[machine].cells[name] || []).forEach(function (stored, index) {
      const read = ptgq.cell(machine, name, index);
      if (read.state !== "value") return;
      const { tokens, hidden, group, format: formatName = "", ...rest } = ptgq.combination(name, index);
      const codes = /int8/.test(formatName) ? "int8" : "fp8";
      const alike = JSON.stringify([rest, codes]);
      const work = Number(tokens) * Number(ptgq.hiddenOf(name, { tokens, hidden }));
      if (!groups.has(alike)) groups.set(alike, []);
      groups.get(alike).push({ index, read, work, least: read.low || read.value, shape: `${tokens} × ${ptgq.hiddenOf(name, { tokens, hidden })}` });
    });
    for (const rows of groups.values())
      for (const one of rows) {
        const { value, low, high } = one.read;
        const other = rows.find(({ least, work }) => value > ptgq.TENFOLD * least * Math.max(1, one.work / work));
        if (low && high > ptgq.TENFOLD * low) found.set(one.index, `its own interval spans ${format.unit(low, "seconds")} to ${format.unit(high, "seconds")}`);
        else if (other) found.set(one.index, `${other.shape} took as little as ${format.unit(other.least, "seconds")} beside it`);
      }
    return found;
  }
};
ptgq.suspects.known = new Map();

ptgq.suspect = (read) => read.state === "value" ? ptgq.suspects(read.machine, read.name).get(read.index) : undefined;

ptgq.suspectNote = function (machine, name) {
  const count = ptgq.suspects(machine, name).size;
  const all = (ptgq.front.machines[machine].cells[name] || []).filter((stored) => Array.isArray(stored)).length;
  return count ? el("p", { class: "suspects" }, `${count} of these ${all} times are marked “?”: another row, or their own 99 % interval, contradicts them ` +
    "more than tenfold. They say how long threads waited for a CPU, not how fast the code is.") : "";
};
