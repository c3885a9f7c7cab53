"use strict";
// The address holds every choice, as #machine=NAME&at=SECTION&SECTION.KEY=VALUE: Back undoes one.
ptgq.address = () => new URLSearchParams(location.hash.slice(1));

// What an address says of a choice; the first of the values allowed, or `usual`, if it says nothing.
ptgq.chosen = function (key, usual, allowed) {
  const value = ptgq.address().get(key);
  return value === null || (allowed && !allowed.includes(value)) ? usual : value;
};

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
