"use strict";
// Line plots with uPlot: bands for intervals, the theme's colours, a readout instead of a legend.
ptgq.plots = new Map();

ptgq.color = (variable) => getComputedStyle(document.documentElement).getPropertyValue(variable).trim();

// Draw into `host`. spec: {label, x, curves: [{label, color, dash, values, low, high}], y, xText,
// logarithmic, zero}. Called again with the same host, it replaces what was there.
ptgq.plot = function (host, spec) {
  const old = ptgq.plots.get(host);
  if (old) old.chart.destroy();
  const data = [spec.x];
  const series = [{}];
  const bands = [];
  const readout = el("div", { class: "readout", "aria-live": "polite" }, spec.label);
  for (const curve of spec.curves) {
    const color = ptgq.color(curve.color);
    data.push(curve.values);
    series.push({
      label: curve.label, stroke: color, width: 1.75, dash: curve.dash, spanGaps: false,
      points: { show: spec.x.length < 80, size: 5, fill: color },
    });
    if (!curve.low) continue;
    // An open end (too few samples) leaves a gap in the band, not in the line.
    data.push(curve.high, curve.low);
    series.push({ show: true, stroke: "transparent", width: 0, points: { show: false } },
      { show: true, stroke: "transparent", width: 0, points: { show: false } });
    bands.push({ series: [data.length - 2, data.length - 1], fill: color + "38" });
  }
  const axis = {
    stroke: ptgq.color("--quiet"), font: "12px system-ui, sans-serif",
    grid: { stroke: ptgq.color("--line"), width: 1 }, ticks: { stroke: ptgq.color("--line"), width: 1 },
  };
  const holder = el("div", { role: "img", tabindex: "0", "aria-label": `${spec.label}. Arrow keys read its points.` });
  const legend = el("div", { class: "legend" }, ...spec.curves.map(function (curve) {
    const key = el("span", { class: "key", "aria-hidden": "true" });
    key.style.borderTopColor = ptgq.color(curve.color);
    if (curve.dash.length) key.style.borderTopStyle = curve.dash[0] > 4 ? "dashed" : "dotted";
    return el("span", {}, key, curve.label);
  }));
  host.className = "plot";
  host.replaceChildren(legend, holder, readout);
  const chart = new uPlot({
    width: Math.max(host.clientWidth - 4, 200), height: 280, series, bands,
    cursor: { y: false, drag: { x: false, y: false } }, legend: { show: false },
    // Room for the last commit's hash.
    padding: [null, 36, null, null],
    scales: {
      x: { time: false, distr: spec.logarithmic ? 3 : 1 },
      y: { range: (self, low, high) => limits(low, high, spec.zero !== false) },
    },
    axes: [
      { ...axis, values: (self, ticks) => ticks.map((tick) => spec.xTick ? spec.xTick(tick) : tick), space: 70 },
      { ...axis, values: (self, ticks) => ticks.map((tick) => spec.y(tick)), size: 86 },
    ],
    hooks: { setCursor: [(self) => say(self.cursor.idx)] },
  }, data, holder);

  // The ends too, where both are known and apart.
  function interval({ low, high }, place) {
    const ends = low ? [low[place], high[place]] : [];
    return ends.every((end) => typeof end === "number") && ends[0] < ends[1] ? ` (${ends.map(spec.y).join(" to ")})` : "";
  }

  // The pointer's cursor, moved by keys.
  holder.addEventListener("keydown", function (event) {
    const last = spec.x.length - 1;
    const now = chart.cursor.idx;
    const next = {
      ArrowLeft: now === null || now === undefined ? last : Math.max(now - 1, 0),
      ArrowRight: now === null || now === undefined ? 0 : Math.min(now + 1, last),
      Home: 0, End: last,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    chart.setCursor({ left: chart.valToPos(spec.x[next], "x"), top: 0 });
  });

  function say(place) {
    if (place === null || place === undefined) {
      readout.textContent = spec.label;
      return;
    }
    const parts = spec.curves
      .filter((curve) => typeof curve.values[place] === "number")
      .map((curve) => `${curve.label} ${spec.y(curve.values[place])}${interval(curve, place)}`);
    readout.textContent = `${spec.xText(spec.x[place])}: ${parts.join(", ") || "no number"}`;
  }
  ptgq.plots.set(host, { chart, spec });
};

function limits(low, high, fromZero) {
  if (low === null || high === null) return [0, 1];
  if (fromZero) return [0, high > 0 ? high * 1.08 : 1];
  const margin = (high - low || Math.abs(high) || 1) * 0.08;
  return [low - margin, high + margin];
}

function redraw() {
  for (const [host, { spec, chart }] of ptgq.plots) {
    if (host.isConnected) {
      ptgq.plot(host, spec);
    } else {
      chart.destroy();
      ptgq.plots.delete(host);
    }
  }
}
document.addEventListener("themechange", redraw);
let resizing = 0;
window.addEventListener("resize", function () {
  clearTimeout(resizing);
  resizing = setTimeout(redraw, 150);
});
