// Charts by Vega-Lite. Their specifications come from Altair; only their data change. Colours are variables of the
// style sheet, so that they follow light, dark and print. Expressions are interpreted, not compiled, so that the page's
// security policy can forbid code from text.

const OPTIONS = { ast: true, actions: false, renderer: "svg", tooltip: false, defaultStyle: false, logLevel: 1 };
const LAYER_HEIGHT = 21; // Pixels of a layer in its chart.

async function newChart(parent, name) {
  const { view } = await vegaEmbed(parent, structuredClone(report.charts[name]), OPTIONS);
  // The chart is described as a whole, and its numbers are in a table.
  parent.querySelector("svg").ariaHidden = "true";
  return view;
}

async function setData(view, sets) {
  for (const [name, values] of Object.entries(sets)) {
    // Vega adds keys to the rows that it gets.
    view.data(name, values);
  }
  await view.runAsync();
}

// One chart for each region, made once and filled again for each checkpoint. The view is a promise, because another
// choice can come before it is there.
const layerCharts = new Map();

function layerChart(p) {
  if (!layerCharts.has(p)) {
    const plot = element("div", "", { className: "plot", role: "img" });
    const caption = element("figcaption");
    const figure = element("figure", plot, { className: "chart" });
    figure.prepend(caption);
    byId("layer-charts").append(figure);
    layerCharts.set(p, { figure, caption, plot, view: newChart(plot, "layers").then(choosingLayers) });
  }
  return layerCharts.get(p);
}

function choosingLayers(view) {
  view.addEventListener("click", (_, item) => {
    if (item?.datum?.id !== undefined) selectLayer(item.datum.id);
  });
  return view;
}

async function drawLayerCharts(places) {
  for (const [p, chart] of layerCharts) chart.figure.hidden = !places.includes(p);
  for (const p of places) {
    const chart = layerChart(p);
    const view = await chart.view;
    const place = report.places[p];
    const time = state.time[p] ?? best[p].time[state.checkpoint];
    const rows = rowsOf(state.checkpoint, p).filter((row) => row.time === time);
    const ceiling = ceilingOf(place, time);
    const heading = `${placeName(place)}${place.times ? ` at ${place.times[time]}` : ""}`;
    const scale = element("span", `100 % is ${text(ceiling, 4)}${bounds(place)}`, { className: "soft" });
    fill(chart.caption, [element("strong", heading), document.createElement("br"), scale]);
    chart.plot.ariaLabel = describeLayers(place, rows);
    view.height(LAYER_HEIGHT * Math.max(1, rows.length));
    await setData(view, layerData(place, rows));
  }
}

function bounds(place) {
  return place.lower === null ? "" : `; noise ceiling ${text(place.lower, 4)} … ${text(place.upper, 4)}`;
}

function layerData(place, rows) {
  const shown = rows.filter((row) => !Number.isNaN(row.percent)).map((row) => ({
    id: row.layer, layer: report.layers[row.layer], percent: row.percent,
    low: Number.isNaN(row.low) ? row.percent : row.low, high: Number.isNaN(row.high) ? row.percent : row.high,
    state: row.layer === state.layer ? "chosen" : "other",
    title: `${report.layers[row.layer]}: ${text(row.percent)} %${interval(row)}${Number.isNaN(row.rho) ? "" : `, mean ${place.symbol} ${text(row.rho, 3)}`}`,
  }));
  const subjects = rows.flatMap((row) => subjectsOf(state.checkpoint, row).map((value, i) => ({
    id: row.layer, layer: report.layers[row.layer], percent: value, title: `${report.layers[row.layer]}, subject ${i}: ${text(value)} %`,
  })).filter((subject) => !Number.isNaN(subject.percent)));
  const isShown = byId("ceiling").checked;
  const scale = 100 / place.ceiling;
  const hasBand = isShown && place.lower !== null;
  return {
    names: rows.map((row) => ({ layer: report.layers[row.layer] })), rows: shown, subjects, ceiling: isShown ? [{ percent: 100 }] : [],
    band: hasBand ? [{ low: place.lower * scale, high: place.upper * scale }] : [],
  };
}

function describeLayers(place, rows) {
  const known = rows.filter((row) => !Number.isNaN(row.percent));
  if (!known.length) return `${placeName(place)}: no layer has a score.`;
  const top = known.reduce((a, b) => (b.percent > a.percent ? b : a));
  return `Scores of ${counted(known.length, "layer")} for ${placeName(place)}; the best is ${report.layers[top.layer]} with ${text(top.percent)} % of the noise ceiling. The table below has the numbers.`;
}

// Lines over epochs or time: one for each layer, and the chosen layer with its interval. While `content` stays the same,
// only the line at what is chosen moves.
const lineViews = new Map();
const MOST_DOTS = 40; // Longer lines have no dots.

// A click chooses what is nearest along the x axis.
function choosingNearest(view, drawn, parent) {
  view.addEventListener("click", (event) => {
    const left = event.clientX - parent.querySelector("svg").getBoundingClientRect().left;
    const x = view.scale("x").invert(left - view.origin()[0]);
    const distance = (point) => Math.abs(point.x - x);
    const nearest = drawn.points.reduce((a, b) => (distance(b) < distance(a) ? b : a));
    drawn.onClick(nearest.id);
  });
  return view;
}

async function drawLines(id, chart, points, now, description, onClick, content) {
  if (!lineViews.has(id)) {
    const made = { content: "", points, onClick };
    made.view = newChart(byId(id), chart).then((view) => choosingNearest(view, made, byId(id)));
    lineViews.set(id, made);
  }
  const drawn = lineViews.get(id);
  const ceiling = byId("ceiling").checked;
  const sets = { now: [{ x: now }], ceiling: ceiling ? [{ percent: 100 }] : [] };
  if (drawn.content !== content) {
    const known = points.filter((point) => !Number.isNaN(point.percent));
    const chosen = known.filter((point) => point.order === state.layer);
    sets.lines = known;
    sets.chosen = chosen.map((point) => ({ ...point }));
    sets.band = chosen.filter((point) => !Number.isNaN(point.low)).map((point) => ({ ...point }));
    const hasDots = new Set(known.map((point) => point.x)).size <= MOST_DOTS;
    sets.points = hasDots ? known.map((point) => ({ ...point, state: point.order === state.layer ? "chosen" : "other" })) : [];
    drawn.content = content;
    drawn.points = points;
  }
  byId(id).role = "img";
  byId(id).ariaLabel = description;
  await setData(await drawn.view, sets);
}
