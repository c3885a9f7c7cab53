"use strict";
// The address holds every choice, as #machine=NAME&at=SECTION&SECTION.KEY=VALUE: Back undoes one.
ptgq.address = () => new URLSearchParams(location.hash.slice(1));

// What the address names that is not here, by key, with the words that say so; and the keys that were asked for.
ptgq.unknown = new Map();
ptgq.asked = new Set(["machine", "at", "series", "value"]);
ptgq.replaced = function (key, text) {
  ptgq.unknown.set(key, { values: String(ptgq.address().getAll(key)), text });
  queueMicrotask(ptgq.sayUnknown);
};

// What an address says of a choice, in any case of letters; `usual` if it says nothing, or nothing allowed.
ptgq.chosen = function (key, usual, allowed, why) {
  const value = ptgq.address().get(key);
  ptgq.asked.add(key);
  ptgq.unknown.delete(key);
  if (value === null) return usual;
  if (!allowed) return value;
  const known = allowed.find((one) => one.toLowerCase() === value.toLowerCase());
  if (known === undefined) ptgq.replaced(key, why ? why(value) : `${key}=${value} is not known here${usual ? `: ${usual} is shown` : ""}.`);
  return known === undefined ? usual : known;
};

ptgq.sayUnknown = function () {
  const address = ptgq.address();
  for (const [key, { values }] of ptgq.unknown) if (String(address.getAll(key)) !== values) ptgq.unknown.delete(key);
  const said = [...ptgq.unknown.values()].map(({ text }) => text);
  // A page that is a file says it: a server has led there.
  const asvs = ptgq.forAsv();
  if (asvs) said.push(`${location.hash} is a place of asv's pages, which need a server: nox -s site -- --serve.`);
  for (const key of asvs ? [] : new Set(address.keys())) {
    const [section] = key.split(".");
    // A table asks for its own when it is drawn; an element's id is a place on the page.
    if (ptgq.asked.has(key) && !key.includes(".") || (!address.get(key) && document.getElementById(key))) continue;
    if (!key.includes(".")) said.push(`The address names ${key}, which this page does not know.`);
    else if (!document.querySelector(`section#${CSS.escape(section)}`)) said.push(`This machine has no section ${section}: ${key} changes nothing.`);
    else if (!ptgq.asked.has(key) && !/\.(sort|find|verdicts)$/.test(key)) said.push(`${key} is no choice of this page.`);
  }
  const place = document.getElementById("unknown");
  place.hidden = said.length === 0;
  place.replaceChildren(el("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => (place.hidden = true) }, "×"),
    ...said.map((text) => el("p", {}, text)));
};
document.addEventListener("chosen", () => queueMicrotask(ptgq.sayUnknown));

// Put choices into the address: an entry of the browser's history, unless `same` goes on with one.
ptgq.choose = function (choices, same) {
  const address = ptgq.address();
  for (const [key, value] of Object.entries(choices)) {
    address.delete(key);
    for (const one of [value].flat()) if (one !== null && one !== "") address.append(key, one);
  }
  // The machine opened without a name is another one as soon as another measures.
  if (!address.has("machine")) address.set("machine", ptgq.machineName);
  const hash = `#${address}`;
  if (hash !== location.hash) history[same ? "replaceState" : "pushState"](null, "", hash);
  document.dispatchEvent(new Event("chosen"));
};

// A link says where it leads, and a click keeps what else was chosen.
document.addEventListener("click", function (event) {
  const link = event.target.closest("a[href^='#']");
  const wanted = link && link.getAttribute("href");
  if (!link || !wanted.includes("=") || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const [address, named] = [ptgq.address(), new URLSearchParams(wanted.slice(1))];
  for (const key of named.has("series") ? ["series", "value", ...named.keys()] : named.keys()) address.delete(key);
  for (const [key, value] of named) address.append(key, value);
  // The same place again: there was scrolling since.
  if (`#${address}` === location.hash) window.dispatchEvent(new Event("hashchange"));
  else location.hash = address;
});
