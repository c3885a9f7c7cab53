"use strict";
// The record: one file loaded at the start, and a file for each series when its history is shown.
// Both are scripts that call ptgq.receive, because a page opened from disk can fetch nothing.
const ptgq = {
  received: new Map(),
  loading: new Map(),

  receive(key, data) {
    ptgq.received.set(key, data);
  },

  get front() {
    return ptgq.received.get("front");
  },

  // Keep in step with write_data in asv_plugins/site.py.
  history: (machine, name, index) => ptgq.load(`history/${machine}/${ptgq.benchmarkNumber(name)}/${index}`),

  load(key) {
    if (!ptgq.loading.has(key)) {
      ptgq.loading.set(
        key,
        new Promise(function (resolve, reject) {
          const script = document.createElement("script");
          script.src = `data/${key}.js?${ptgq.front.published}`;
          script.onload = () => {
            script.remove();
            resolve(ptgq.received.get(key));
          };
          script.onerror = () => {
            ptgq.loading.delete(key);
            reject(new Error(`could not load ${script.src}`));
          };
          document.head.append(script);
        }),
      );
    }
    return ptgq.loading.get(key);
  },

  benchmarkNumber(name) {
    return ptgq.front.benchmarks.findIndex((benchmark) => benchmark.name === name);
  },

  benchmark(name) {
    return ptgq.front.benchmarks[ptgq.benchmarkNumber(name)];
  },

  // asv stores a parameter as Python prints it: 'cuda', 32.
  plain(value) {
    const quoted = /^(['"])(.*)\1$/s.exec(value);
    return quoted ? quoted[2] : value;
  },

  // The plain values of one parameter, in the suite's order; none if it has no such parameter.
  values(name, parameter) {
    const benchmark = ptgq.benchmark(name);
    const axis = benchmark ? benchmark.names.indexOf(parameter) : -1;
    return axis < 0 ? [] : benchmark.params[axis].map(ptgq.plain);
  },

  // The position of a combination among the benchmark's, or -1: the last parameter runs fastest.
  index(name, wanted) {
    const benchmark = ptgq.benchmark(name);
    if (!benchmark) return -1;
    let index = 0;
    for (let axis = 0; axis < benchmark.names.length; axis++) {
      const values = benchmark.params[axis].map(ptgq.plain);
      const place = values.indexOf(String(wanted[benchmark.names[axis]]));
      if (place < 0) return -1;
      index = index * values.length + place;
    }
    return index;
  },

  // The inverse: parameter name to plain value.
  combination(name, index) {
    const benchmark = ptgq.benchmark(name);
    const found = Object.fromEntries(benchmark.names.map((key) => [key, null]));
    for (let axis = benchmark.names.length - 1; axis >= 0; axis--) {
      const count = benchmark.params[axis].length;
      found[benchmark.names[axis]] = ptgq.plain(benchmark.params[axis][index % count]);
      index = Math.floor(index / count);
    }
    return found;
  },

  // One cell of a machine, read: state is "value", "n/a", "failed" or "missing".
  cell(machine, name, wanted) {
    const index = typeof wanted === "number" ? wanted : ptgq.index(name, wanted);
    const cells = ptgq.front.machines[machine].cells[name];
    const stored = index < 0 || !cells ? null : cells[index];
    const read = { machine, name, index, at: ptgq.measuredAt(machine, name, index), state: "missing", previous: ptgq.front.machines[machine].previous[name] ?? null, before: null, verdict: null, smallest: null };
    if (stored === null || stored === undefined) return read;
    if (stored === "n/a" || stored === "failed") return { ...read, state: stored };
    const [now, before, verdict, smallest] = stored;
    if (now === "failed") return { ...read, state: "failed", before: ptgq.measurement(before) };
    const facts = read.previous === null ? [] : [read.previous, read.at].map((at) => ptgq.factsAt(machine, at));
    const kernels = function (place) {
      const [newer, older] = (ptgq.front.machines[machine].cells[ptgq.KERNEL_COUNT] || [])[place] || [];
      return [older, newer];
    };
    return {
      ...read,
      state: "value",
      ...ptgq.measurement(now),
      before: before === undefined || before === "failed" ? null : ptgq.measurement(before),
      fixed: before === "failed",
      verdict: verdict ? ptgq.settled(verdict, name, index, facts, kernels) : null,
      smallest: smallest === undefined ? null : smallest,
    };
  },

  // The commit, by position, that a benchmark's numbers are of: the newest that has any; or of one
  // of its series, which a run whose time was over may have left to an older one.
  measuredAt(machine, name, index) {
    const { measured, commit, kept } = ptgq.front.machines[machine];
    const older = ((kept || {})[name] || {})[index];
    return older ?? (measured[name] ? measured[name][0] : commit);
  },

  // When a machine measured last, in seconds.
  lastMeasured(machine) {
    return Math.max(0, ...Object.values(ptgq.front.machines[machine].measured).map(([, time]) => time || 0));
  },

  // A counted number has no spread. An open interval (too few samples) has null ends.
  measurement(stored) {
    if (!Array.isArray(stored)) return { value: stored, low: stored, high: stored };
    return { value: stored[0], low: stored[1], high: stored[2] };
  },
};
