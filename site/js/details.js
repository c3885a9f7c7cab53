"use strict";
// The dialog of one row: every number with its interval, its graph, its history and its command.
ptgq.command = function (text) {
  const code = el("code", {}, text);
  const button = el("button", { type: "button" }, "Copy");
  button.addEventListener("click", async function () {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch (error) {
      // No clipboard here (permission, or an insecure address): select it for the user's own copy.
      window.getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  return el("div", { class: "command" }, code, button);
};

// entries: [{label, read}]; command: the table script's, where it can measure this row.
ptgq.showDetails = function (title, entries, command) {
  const dialog = document.getElementById("details");
  const close = el("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const parts = [el("header", {}, el("h2", { id: "details-title" }, title), close)];
  if (command) parts.push(el("p", { class: "note" }, "This row again, on this machine:"), ptgq.command(command));
  for (const { label, read } of entries) {
    if (read.index < 0) continue;
    const unit = ptgq.benchmark(read.name).unit;
    parts.push(el("h3", {}, label));
    if (read.state === "value") {
      parts.push(el("p", {}, `${format.unit(read.value, unit)} (${ptgq.interval(read, unit)})`));
      const why = ptgq.suspect(read);
      if (why) parts.push(el("p", { class: "suspects" }, `Doubtful: ${why}.`));
    } else {
      parts.push(el("p", { class: read.state === "failed" ? "failed" : "na" }, `${read.state}: ${ptgq.why(read)}`));
    }
    if (read.before) {
      parts.push(el("p", { class: "note" },
        "Before, at ", ptgq.commitLink(read.previous), ` of ${format.date(ptgq.front.commits[read.previous][1])} (${ptgq.between(read.previous, read.at)}): ` +
        `${format.unit(read.before.value, unit)} (${ptgq.interval(read.before, unit)})`,
        read.smallest === null ? "" : `. The smallest slow-down that would have been called: ${ptgq.smallestText(read)}.`));
    }
    const history = el("button", {
      type: "button",
      onclick() {
        dialog.close();
        location.hash = ptgq.historyAddress(read);
      },
    }, "History");
    parts.push(
      el("div", { class: "controls" }, ptgq.served ? el("a", { href: ptgq.graph(read) }, "Graph in asv") : "", history),
      ptgq.command(ptgq.asvCommand(read)),
    );
  }
  dialog.replaceChildren(...parts, el("p", { class: "note" }, ptgq.reach));
  dialog.showModal();
  dialog.scrollTop = 0;
};

// The button at the end of a row.
ptgq.more = function (title, entries, command) {
  return el("td", {}, el("button", {
    type: "button",
    "aria-label": `Details and commands: ${title}`,
    onclick: () => ptgq.showDetails(title, entries, command),
  }, "•••"));
};
