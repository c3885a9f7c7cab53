"use strict";
// Tables that the reader sorts by a column and searches; both are in the address.
ptgq.sortKey = function (cell) {
  const exact = cell.dataset.sort !== undefined ? cell : cell.querySelector("[data-sort]");
  return exact ? exact.dataset.sort : cell.textContent.trim().replace(/^[×+]/, "").replace("−", "-").replaceAll(",", "");
};

ptgq.isNothing = (key) => ["", "–", "n/a", "failed"].includes(key);

// Numbers by size, "16 × 512" by its numbers, other words after them; nothing comes last.
ptgq.compareKeys = function (one, other) {
  if (ptgq.isNothing(one) || ptgq.isNothing(other)) return ptgq.isNothing(one) - ptgq.isNothing(other);
  const [a, b] = [parseFloat(one), parseFloat(other)];
  if (Number.isNaN(a) !== Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
  return Number.isNaN(a) || a === b ? one.localeCompare(other, "en", { numeric: true }) : a - b;
};

// `id` names the table in the address; `limit` rows are shown until more are asked for. It scrolls
// by itself, so that the page does not; the keyboard can scroll it too.
ptgq.table = function (id, label, head, rows, { long, limit, kind } = {}) {
  const STEP = 5;
  const [sorting, finding] = [`${id}.sort`, `${id}.find`];
  const body = el("tbody", {});
  const more = el("button", { type: "button", onclick: () => { shown += STEP * limit; fill(); } });
  const columns = [...head.at(-1).children];
  const buttons = columns.map(function (column, place) {
    // Not the column of buttons.
    if (column.querySelector(".hidden-text")) return null;
    const button = el("button", {
      type: "button", title: "Sort",
      onclick() {
        const [by, down] = order();
        ptgq.choose({ [sorting]: by !== place ? place : down ? "" : `-${place}` });
        fill();
      },
    }, ...column.childNodes);
    column.append(button);
    return button;
  });
  // Names break behind their parts where a column is narrow.
  for (const row of rows)
    for (const cell of row.querySelectorAll("th, td.text"))
      for (const node of [...cell.childNodes].filter((child) => child.nodeType === Node.TEXT_NODE)) {
        const parts = node.data.split(/(?<=_)|(?<=[a-z]\.)(?=[a-z])|(?=\+[a-z])/i);
        if (parts.length > 1) node.replaceWith(...parts.flatMap((part, place) => place ? [el("wbr"), part] : [part]));
      }
  let shown = limit || rows.length;

  function order() {
    const by = ptgq.chosen(sorting, "", buttons.flatMap((button, place) => button ? [String(place), `-${place}`] : []));
    return by ? [Number(by.replace("-", "")), by[0] === "-"] : [null, false];
  }

  function fill() {
    const words = ptgq.chosen(finding, "").toLowerCase().split(/\s+/);
    const found = rows.filter((row) => words.every((word) => row.textContent.toLowerCase().includes(word)));
    const [by, down] = order();
    columns.forEach((column, place) => place === by
      ? column.setAttribute("aria-sort", down ? "descending" : "ascending") : column.removeAttribute("aria-sort"));
    if (by !== null) {
      const keys = new Map(found.map((row) => [row, ptgq.sortKey(row.children[by])]));
      found.sort(function (a, b) {
        const [one, other] = [keys.get(a), keys.get(b)];
        const turned = down && !ptgq.isNothing(one) && !ptgq.isNothing(other);
        return (turned ? -1 : 1) * ptgq.compareKeys(one, other);
      });
    }
    body.replaceChildren(...found.slice(0, shown));
    if (!found.length) body.append(el("tr", {}, el("td", { class: "na text", colspan: columns.length }, "No row holds these words.")));
    more.hidden = found.length <= shown;
    more.textContent = more.hidden ? "" : `Show more (${found.length - shown} left)`;
  }

  const search = el("input", {
    type: "search", placeholder: "Search", "aria-label": `Search in ${label}`, value: ptgq.chosen(finding, ""),
  });
  search.addEventListener("input", function () {
    // One entry for a search, not for each letter.
    ptgq.choose({ [finding]: search.value }, ptgq.address().has(finding));
    fill();
  });
  fill();
  return el("div", {}, rows.length > 4 ? search : "",
    el("div", { class: long ? "scroll long" : "scroll", tabindex: "0", role: "region", "aria-label": label },
      el("table", { class: kind }, el("caption", { class: "hidden-text" }, label), el("thead", {}, ...head), body)), more);
};
