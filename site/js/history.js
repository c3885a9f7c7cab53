"use strict";
// One series over the measured commits, the backends together, with the 99 % interval as a band.
ptgq.historySection = function (machine) {
  const names = ptgq.front.machines[machine].histories;
  if (!names.length) return null;
  let name = [ptgq.KERNEL, ptgq.CALL].find((key) => names.includes(key)) || names[0];
  let choice = {};
  let zero = ptgq.chosen("history.zoom", "", ["y"]) !== "y";
  let asked = 0;
  const controls = el("div", { class: "controls" });
  const plot = el("div", {});
  const table = el("div", {});
  const rows = el("details", {}, el("summary", {}, "Numbers"), table);
  const axis = el("button", {
    type: "button", "aria-pressed": String(!zero),
    onclick() {
      zero = !zero;
      ptgq.choose({ "history.zoom": zero ? "" : "y" });
      axis.setAttribute("aria-pressed", String(!zero));
      draw();
    },
  }, "Zoom y");

  function choose(next, wanted) {
    name = next;
    const first = (ptgq.front.machines[machine].cells[name] || []).findIndex(Array.isArray);
    choice = wanted || ptgq.combination(name, Math.max(first, 0));
    controls.replaceChildren(
      ptgq.select("Benchmark", names.map((key) => [key, ptgq.title(key)]), name, (value) => {
        choose(value);
        share();
      }),
      ...ptgq.benchmark(name).names.filter((key) => key !== "backend").map(function (key) {
        // Tokens alone would be confused with other numbers.
        const shapes = key === "tokens" && !ptgq.values(name, "hidden").length;
        const text = (value) => shapes ? `${value} × ${ptgq.hiddenOf(name, { tokens: value })}` : value;
        const values = ptgq.values(name, key).map((value) => [value, text(value)]);
        return ptgq.select(shapes ? "tokens × hidden" : { group: "group size", hidden: "hidden size" }[key] || key, values, choice[key], (value) => {
          choice[key] = value;
          draw();
          share();
        });
      }),
      axis);
    return draw();
  }

  // Each choice is in the address: a link to it can be sent.
  function share() {
    const index = ptgq.index(name, choice);
    const address = new URLSearchParams(ptgq.historyAddress({ machine, name, index }).slice(1));
    ptgq.choose({ machine: address.get("machine"), at: "history", series: name, value: address.getAll("value") });
  }

  async function draw() {
    const turn = ++asked;
    const backends = ptgq.values(name, "backend");
    const wanted = (backends.length ? backends : [null])
      .map((backend) => ({ backend, index: ptgq.index(name, backend === null ? choice : { ...choice, backend }) }));
    let columns;
    try {
      columns = await Promise.all(wanted.map(({ index }) => ptgq.history(machine, name, index)));
    } catch (error) {
      plot.className = "";
      plot.replaceChildren(el("p", { class: "failed" }, error.message));
      return;
    }
    // A later choice has been made while this one was loading.
    if (turn !== asked) return;
    const positions = [...new Set(columns.flatMap((column) => column.commit))].sort((a, b) => a - b);
    const place = new Map(positions.map((position, index) => [position, index]));
    const spread = (column, values) => {
      const row = Array(positions.length).fill(null);
      column.commit.forEach((position, index) => (row[place.get(position)] = values[index]));
      return row;
    };
    const lines = columns
      .map((column, index) => ({ column, backend: wanted[index].backend }))
      .filter(({ column }) => column.failed.length || column.value.some((value) => value !== null))
      .map(({ column, backend }) => ({
        label: backend === null ? ptgq.title(name) : ptgq.backendNames[backend] || backend,
        color: `--${backend === null ? "cuda" : backend}`, dash: [],
        values: spread(column, column.value),
        low: column.low ? spread(column, column.low) : null,
        high: column.high ? spread(column, column.high) : null,
        failed: new Set(column.failed),
      }));
    const unit = ptgq.benchmark(name).unit;
    const title = [ptgq.title(name), ...ptgq.words(name, { ...choice, backend: null }).filter((word) => word !== null)].join(", ");
    const commit = (index) => ptgq.front.commits[positions[index]];
    // A step may be any of the commits since the last measured one.
    const since = function (index) {
      const [earlier, later] = [commit(index - 1), commit(index)];
      const between = earlier ? later[3] - earlier[3] : 1;
      return between < 2 ? "" : ` (of ${between} commits after ${format.hash(earlier[0])}, ${later[4] - earlier[4]} touch csrc)`;
    };
    const text = (index) => commit(index) ? `${format.hash(commit(index)[0])} ${format.date(commit(index)[1])}` : "";
    ptgq.plot(plot, {
      label: title, x: positions.map((_, index) => index), curves: lines, zero,
      y: (value) => format.unit(value, unit === "seconds" ? unit : ""),
      xTick: (tick) => Number.isInteger(tick) ? text(tick).slice(0, ptgq.front.hash_length) : "",
      xText: (index) => `${text(index)} ${commit(index)[2]}${since(index)}`,
    });
    list(positions, lines, unit, title);
  }

  function list(positions, lines, unit, title) {
    const fill = function () {
      if (!rows.open) return;
      const head = ptgq.heads(["Commit", ...lines.map((line) => line.label)]);
      const body = positions.map((position, index) => el("tr", {},
        el("th", { scope: "row" }, ptgq.commitLink(position), ` ${format.date(ptgq.front.commits[position][1])} `,
          el("span", { class: "quiet" }, ptgq.front.commits[position][2], index ? ` (after ${format.hash(ptgq.front.commits[positions[index - 1]][0])}, ${ptgq.between(positions[index - 1], position)})` : "")),
        ...lines.map(({ values, low, high, failed }) => {
          if (failed.has(position)) return el("td", { class: "failed" }, "failed");
          if (values[index] === null) return el("td", { class: "na" }, "n/a");
          const measured = { value: values[index], low: low ? low[index] : values[index], high: high ? high[index] : values[index] };
          const apart = measured.low !== measured.high;
          const ends = [measured.low, measured.high].map((end) => end === null ? "?" : format.unit(end, unit)).join(" to ");
          return el("td", { "data-sort": measured.value, title: ptgq.interval(measured, unit) }, format.unit(values[index], unit),
            apart ? el("span", { class: "interval" }, ends) : "");
        }))).reverse();
      table.replaceChildren(ptgq.table("history", title, [head], body, { long: true }));
    };
    rows.ontoggle = fill;
    fill();
  }

  const section = ptgq.section("history", "History",
    el("p", { class: "note" }, "Median and 99 % interval at each measured commit. A gap is a commit with no number: n/a, failed or not measured; the numbers below say which failed. The arrow keys read a plot's points."),
    controls, plot, rows);
  section.drawn = () => choose(name);
  const usual = name;
  ptgq.openHistory = (read) => read ? choose(read.name, ptgq.combination(read.name, read.index)) : choose(usual);
  return section;
};
