"use strict";
// Any two measured commits, of one machine or of two: nothing is loaded before it is asked for.
ptgq.compareSection = function (machine) {
  const commits = ptgq.front.commits;
  const names = ptgq.front.machines.map((_, number) => ptgq.machineLabel(number));
  const keys = ptgq.front.machines.map(({ params }, number) =>
    ptgq.front.machines.findIndex((other) => other.params.machine === params.machine) === number ? params.machine : `${params.machine}/${number}`);
  const of = (number) => ptgq.front.machines[number].commits;
  const sides = ["before", "after"].map(function (side) {
    const on = `compare.${side}-machine`;
    const number = keys.indexOf(ptgq.chosen(on, keys[machine], keys, (value) => `${on}=${value} names no machine: nothing is compared.`));
    const hash = ptgq.chosen(`compare.${side}`, "").toLowerCase();
    const named = hash ? of(number).filter((at) => commits[at][0].startsWith(hash)) : [];
    if (hash && named.length !== 1) {
      ptgq.replaced(`compare.${side}`, `compare.${side}=${hash} names ${named.length || "no"} ${named.length ? "commits" : "commit"} ` +
        `measured on ${keys[number]}: nothing is compared.`);
    }
    return { side, number, at: named[0] ?? of(number).at(side === "before" ? -2 : -1) ?? of(number)[0] };
  });
  // Another pair than the one asked for is no answer.
  const wrong = ["before", "after"].flatMap((side) => [`compare.${side}-machine`, `compare.${side}`])
    .flatMap((key) => ptgq.unknown.has(key) ? [ptgq.unknown.get(key).text] : []);
  const controls = el("div", {});
  const body = el("div", {});
  let turn = 0;

  function controlsOf(one) {
    const text = (at) => `${format.hash(commits[at][0])} ${format.date(commits[at][1])} ${commits[at][2]}`;
    return el("div", { class: "controls" },
      ptgq.select(one.side === "before" ? "Before" : "After", names.map((name, number) => [String(number), name]), String(one.number), function (value) {
        one.number = Number(value);
        // The same commit on the other machine, if it was measured there.
        if (!of(one.number).includes(one.at)) one.at = of(one.number).at(-1);
        run();
      }),
      ptgq.select("at", of(one.number).map((at) => [String(at), text(at)]).reverse(), String(one.at), function (value) {
        one.at = Number(value);
        run();
      }));
  }

  function run() {
    ptgq.choose(Object.fromEntries(sides.flatMap(({ side, number, at }) =>
      [[`compare.${side}-machine`, keys[number]], [`compare.${side}`, format.hash(commits[at][0])]])));
    draw();
  }

  async function draw() {
    const mine = ++turn;
    controls.replaceChildren(...sides.map(controlsOf), el("button", { type: "button", onclick: run }, "Compare"));
    if (wrong.length) {
      body.replaceChildren(...wrong.splice(0).map((text) => el("p", { class: "failed" }, text)));
      return;
    }
    if (!ptgq.address().has("compare.after")) return;
    let rules, cells;
    try {
      [rules, ...cells] = await Promise.all([ptgq.load("rules"),
        ...sides.map(({ number, at }) => ptgq.load(`commit/${number}/${at}`))]);
    } catch (error) {
      body.replaceChildren(el("p", { class: "failed" }, error.message));
      return;
    }
    if (mine !== turn) return;
    const [before, after] = sides.map(({ number, at }, place) => [number, { commit: at, cells: cells[place] }]);
    const rows = ptgq.compared(rules, before, after);
    // Calls that two machines both have are shown, although nothing is called slower.
    const usual = before[0] === after[0] ? undefined : ptgq.VERDICTS;
    body.replaceChildren(ptgq.pairNotes(before, after, rows), ...ptgq.verdictTable("compare", rows, "Nothing was measured at both.", usual));
  }

  draw();
  return ptgq.section("compare", "Compare",
    el("p", { class: "note" }, "Two measured commits, by the rule of What changed; or two machines, by the times that both have: their own drift " +
      "is not known then, and counts that depend on a compiler are left out. Each was measured in a process of its own, so a difference of a few percent may be the process's: " +
      "nox -s compare alternates the two."),
    controls, body);
};
