// What is chosen, and the parts of the page that follow from it.

const MOST_PLACES = 8; // Regions with a column and a chart at a time.
const MOST_POINTS = 100; // Checkpoints of a line over epochs that are drawn.
const state = { measure: report.measures[0]?.name, place: 0, checkpoint: -1, layer: -1, time: {} };

function placesOfMeasure() {
  return report.places.flatMap((place, p) => (place.measure === state.measure ? [p] : []));
}

// The regions shown: those around the chosen one.
function shownPlaces() {
  const all = placesOfMeasure();
  const first = Math.floor(Math.max(0, all.indexOf(state.place)) / MOST_PLACES) * MOST_PLACES;
  return all.slice(first, first + MOST_PLACES);
}

// ---- Choices

function selectCheckpoint(c) {
  state.checkpoint = c;
  const layers = layersOf(c);
  if (!layers.includes(state.layer)) state.layer = best[state.place].layer[c] >= 0 ? best[state.place].layer[c] : layers[0];
  markChosen();
  const top = best[state.place];
  const score = top.layer[c] < 0 ? "no score" : `best layer ${report.layers[top.layer[c]]}, ${text(top.percent[c])} %`;
  say(`${report.checkpoints.name[c]}: ${placeName(report.places[state.place])}, ${score}`);
  return drawCheckpoint();
}

function selectLayer(layer) {
  state.layer = layer;
  say(`Layer ${report.layers[layer]}`);
  return drawCheckpoint();
}

function selectPlace(p) {
  const before = shownPlaces();
  state.place = p;
  if (shownPlaces().join() !== before.join()) prepareTable(shownPlaces());
  return drawCheckpoint();
}

function selectMeasure(measure) {
  state.measure = measure;
  state.place = placesOfMeasure()[0];
  table.sort = null;
  fillRegions();
  prepareTable(shownPlaces());
  return drawCheckpoint();
}

// ---- The chosen checkpoint

// Drawing takes several steps; only the latest choice is drawn to its end.
let latest = 0;

async function drawCheckpoint() {
  const mine = ++latest;
  const c = state.checkpoint;
  fill(byId("checkpoint-title"), [breakable(report.checkpoints.name[c])]);
  const facts = report.checkpoints;
  fillFacts("checkpoint-facts", [
    ...report.labels.filter((label) => !isMissing(label.values[c])).map((label) => [label.name, label.values[c]]),
    ["network", report.archs[facts.arch[c]]], ["settings", report.settings[facts.settings[c]]], ["SHA-256", facts.sha256[c]],
  ]);
  byId("no-subjects").hidden = subjectStarts[c] >= 0;
  drawSliders();
  fillLayers();
  drawRdms();
  const steps = [() => drawLayerCharts(shownPlaces()), drawEpochs, drawTimes];
  for (const step of steps) if (mine === latest) await step();
  if (mine === latest) document.body.dataset.drawn = `${c} ${state.layer}`;
}

function fillLayers() {
  const places = shownPlaces();
  const found = new Map();
  for (const row of rowsOf(state.checkpoint)) {
    const time = state.time[row.place] ?? best[row.place].time[state.checkpoint];
    if (row.time === time) found.set(`${row.layer} ${row.place}`, row);
  }
  const head = ["Layer", ...places.map((p) => ({ text: `${placeName(report.places[p])} %`, number: true }))];
  const measure = report.measures.find((each) => each.name === state.measure);
  const below = measure.below_zero && [...found.values()].some((row) => row.rho < 0 && report.places[row.place].measure === state.measure);
  byId("layers").caption.textContent = `Percent of the noise ceiling [95 % interval]${below ? `; ‡ mean below 0, ${measure.below_zero}` : ""}. Choose a layer to see its RDM.`;
  const layers = layersOf(state.checkpoint);
  const hadFocus = byId("layers").contains(document.activeElement);
  fillTable("layers", head, layers.map((layer) => {
    const button = element("button", report.layers[layer], { type: "button", ariaPressed: layer === state.layer });
    button.addEventListener("click", () => selectLayer(layer));
    return [button, ...places.map((p) => {
      const row = found.get(`${layer} ${p}`);
      const sign = row && row.rho < 0 ? " ‡" : "";
      return { text: row ? text(row.percent) + sign : "–", note: row && interval(row).trim(), number: true };
    })];
  }));
  [...byId("layers").tBodies[0].rows].forEach((row, i) => {
    row.className = layers[i] === state.layer ? "chosen" : "";
    if (hadFocus && layers[i] === state.layer) row.querySelector("button").focus();
  });
}

// ---- Epochs and time points

const progress = report.labels.find((label) => label.name === report.progress);
const runs = new Map();
if (progress) {
  for (let c = 0; c < n; c++) {
    const run = report.checkpoints.run[c];
    if (isMissing(progress.values[c])) continue;
    if (!runs.has(run)) runs.set(run, []);
    runs.get(run).push(c);
  }
  for (const run of runs.values()) run.sort((a, b) => progress.values[a] - progress.values[b]);
}

function runOfChosen() {
  const run = progress && !isMissing(progress.values[state.checkpoint]) ? runs.get(report.checkpoints.run[state.checkpoint]) : [];
  return run.length > 1 ? run : [];
}

function drawSliders() {
  const run = runOfChosen();
  byId("epoch-slider").hidden = !run.length;
  if (run.length) {
    const slider = byId("epoch");
    slider.max = run.length - 1;
    slider.value = run.indexOf(state.checkpoint);
    byId("epoch-label").textContent = progress.name;
    byId("epoch-value").textContent = progress.values[state.checkpoint];
    slider.ariaValueText = `${progress.name} ${progress.values[state.checkpoint]}`;
  }
  const times = report.places[state.place].times;
  byId("time-slider").hidden = !times;
  if (times) {
    const time = state.time[state.place] ?? best[state.place].time[state.checkpoint];
    byId("time").max = times.length - 1;
    byId("time").value = time;
    byId("time-value").textContent = times[time];
    byId("time").ariaValueText = String(times[time]);
  }
}

function selectTime(time) {
  const times = report.places[state.place].times;
  // Regions with the same time points move together.
  for (const p of placesOfMeasure()) if (report.places[p].times?.join() === times.join()) state.time[p] = time;
  return drawCheckpoint();
}

// Points of a chart of lines; `id` is what a click on one chooses.
function pointsOf(rows, id, x) {
  return rows.map((row) => ({
    x, id, layer: report.layers[row.layer], order: row.layer, percent: row.percent, low: row.low, high: row.high,
    title: `${report.layers[row.layer]} at ${x}: ${text(row.percent)} %${interval(row)}`,
  }));
}

// At most so many checkpoints of a run, with the first and the last one.
function thinned(run) {
  const step = Math.ceil(run.length / MOST_POINTS);
  return run.filter((c, i) => i % step === 0 || i === run.length - 1);
}

async function drawEpochs() {
  const run = runOfChosen();
  byId("over-epochs").hidden = !run.length;
  if (!run.length) return;
  const place = report.places[state.place];
  const name = progress.name;
  const drawn = thinned(run);
  const time = state.time[state.place] ?? best[state.place].time[state.checkpoint];
  const points = drawn.flatMap((c) => pointsOf(rowsOf(c, state.place).filter((row) => row.time === time), c, progress.values[c]));
  byId("over-epochs-title").textContent = `Scores over ${name}: ${placeName(place)}`;
  const every = drawn.length < run.length ? ` ${drawn.length} of ${counted(run.length, "checkpoint")} are drawn.` : "";
  byId("over-epochs-help").textContent = `A line for each layer of this run, from the first (blue) to the last (orange); the thick line is ${report.layers[state.layer]}, with its 95 % interval. Click the chart to choose the nearest checkpoint.${every}`;
  fillLines("epochs-table", name, points);
  const description = `Scores over ${name} of ${counted(layersOf(state.checkpoint).length, "layer")} for ${placeName(place)}. The table below has the numbers.`;
  const content = [report.checkpoints.run[state.checkpoint], state.place, state.layer, time, drawn.length].join();
  await drawLines("epochs-chart", "lines", points, progress.values[state.checkpoint], description, selectCheckpoint, content);
}

async function drawTimes() {
  const place = report.places[state.place];
  byId("over-time").hidden = !place.times;
  if (!place.times) return;
  const rows = rowsOf(state.checkpoint, state.place);
  const points = rows.flatMap((row) => pointsOf([row], row.time, place.times[row.time]));
  const time = state.time[state.place] ?? best[state.place].time[state.checkpoint];
  byId("over-time-title").textContent = `Scores over time: ${placeName(place)}`;
  byId("over-time-help").textContent = `A line for each layer, from the first (blue) to the last (orange); the thick line is ${report.layers[state.layer]}, with its 95 % interval. Percent of the noise ceiling of each time point.`;
  fillLines("time-table", "time", points);
  const description = `Scores over ${counted(place.times.length, "time point")} for ${placeName(place)}. The table below has the numbers.`;
  const content = [state.checkpoint, state.place, state.layer].join();
  await drawLines("time-chart", "times", points, place.times[time], description, selectTime, content);
}

// The table is filled when it is opened.
function fillLines(id, name, points) {
  const details = byId(id).closest("details");
  const draw = () => {
    if (!details.open) return;
    const layers = [...new Set(points.map((point) => point.layer))];
    const at = new Map();
    for (const point of points) at.set(point.x, { ...at.get(point.x), [`l${point.order}`]: point.percent });
    const orders = [...new Set(points.map((point) => point.order))];
    byId(id).caption.textContent = "Percent of the noise ceiling";
    fillTable(id, [name, ...layers.map((layer) => ({ text: layer, number: true }))], [...at].map(([x, of]) => [String(x), ...orders.map((order) => ({ text: text(of[`l${order}`] ?? NaN), number: true }))]));
  };
  details.ontoggle = draw;
  draw();
}

// ---- The whole page

function fillRegions() {
  fill(byId("region"), placesOfMeasure().map((p) => element("option", placeName(report.places[p]), { value: p, selected: p === state.place })));
}

function fillFailures() {
  const { count, listed } = report.failures;
  byId("failures").hidden = !count;
  byId("failures-title").textContent = `${counted(count, "failure")}`;
  byId("failures-help").textContent = listed.length < count ? `The first ${listed.length} are listed; fastrdm table --failures has all.` : "";
  fillTable("failures-table", ["Checkpoint", "Why"], listed);
}

function fillProvenance() {
  byId("title").textContent = report.title;
  byId("summary").textContent = report.summary;
  byId("synthetic").hidden = !report.synthetic;
  byId("synthetic").textContent = report.synthetic;
  fillFacts("facts", report.facts);
  fill(byId("notes"), report.notes.map((note) => element("li", note)));
  fillTable("regions", ["Region", "Measure", "Protocol", "Subjects", "100 % (ceiling)", "Lower … upper"], report.places.map((place) => [
    `${place.study} ${place.region.toUpperCase()}`, place.measure, place.protocol, { text: String(place.n_subjects), number: true },
    place.ceilings ? "of each time point" : text(place.ceiling, 4), place.lower === null ? "not in the store" : `${text(place.lower, 4)} … ${text(place.upper, 4)}`,
  ]));
}

const THEMES = ["automatic", "light", "dark"];
function turnTheme() {
  const theme = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "automatic") + 1) % 3];
  if (theme === "automatic") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme").textContent = `Colours: ${theme}`;
}

function listen() {
  byId("theme").addEventListener("click", turnTheme);
  byId("previous").addEventListener("click", () => turnPage(-1));
  byId("next").addEventListener("click", () => turnPage(1));
  byId("filter").addEventListener("input", () => {
    table.page = 0;
    orderTable();
    drawTable();
    say(counted(table.order.length, "checkpoint"));
  });
  byId("measure").addEventListener("change", (event) => selectMeasure(event.target.value));
  byId("region").addEventListener("change", (event) => selectPlace(Number(event.target.value)));
  byId("epoch").addEventListener("input", (event) => selectCheckpoint(runOfChosen()[Number(event.target.value)]));
  byId("time").addEventListener("input", (event) => selectTime(Number(event.target.value)));
  byId("ceiling").addEventListener("change", drawCheckpoint);
  addEventListener("beforeprint", () => n && printTable(true));
  addEventListener("afterprint", () => n && printTable(false));
  byId("table").tBodies[0].addEventListener("keydown", moveInTable);
  byId("layers").tBodies[0].addEventListener("keydown", moveInTable);
}

function start() {
  fillProvenance();
  fillFailures();
  listen();
  for (const part of document.querySelectorAll(".with-scores")) part.hidden = !n;
  document.querySelector("main").classList.toggle("scored", n > 0);
  if (!n) {
    document.body.dataset.drawn = "";
    return;
  }
  const example = progress ? `${progress.name}>=10` : report.labels.length ? `${report.labels[0].name}=${report.labels[0].values.find((value) => !isMissing(value))}` : `checkpoint=${report.checkpoints.name[0]}`;
  byId("filter-help").textContent = `Words in names, labels and best layers, and conditions on columns, for example ${example}`;
  // The best checkpoint is first.
  state.place = report.places.reduce((a, _, p) => (best[p].percent[report.first] > best[a].percent[report.first] ? p : a), 0);
  state.measure = report.places[state.place].measure;
  fill(byId("measure"), report.measures.map((each) => element("option", each.title, { value: each.name, selected: each.name === state.measure })));
  byId("measure-label").hidden = report.measures.length < 2;
  fillRegions();
  byId("region-label").hidden = report.places.length < 2;
  const all = placesOfMeasure().length;
  byId("more-regions").hidden = all <= MOST_PLACES;
  byId("more-regions").textContent = `${MOST_PLACES} of ${counted(all, "region")} are shown at a time; choose a region to see others.`;
  [table.sort, table.isDescending] = [`place ${state.place}`, true];
  prepareTable(shownPlaces());
  selectCheckpoint(report.first);
}

start();
