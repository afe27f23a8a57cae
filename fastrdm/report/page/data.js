// The report's data. Numbers are columns in base64, decoded once; a row is the score of one layer of a checkpoint for a
// place (a region of a study under a measure) and, if it has time points, one of them. Checkpoints with the same
// layers and places share a shape, which has the layer, the place and the time of each of their rows.

const report = JSON.parse(document.getElementById("data").textContent);

function buffer(text) {
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes.buffer;
}

const MISSING = -32768;
const columns = {
  percent: new Float32Array(buffer(report.percent)),
  low: new Float32Array(buffer(report.low)),
  high: new Float32Array(buffer(report.high)),
  rho: new Int16Array(buffer(report.rho)),
  subjects: new Int16Array(buffer(report.subjects)),
};

const shapes = report.shapes.map((shape) => {
  const place = new Uint16Array(buffer(shape.place));
  const offsets = new Uint32Array(place.length + 1);
  for (let k = 0; k < place.length; k++) offsets[k + 1] = offsets[k] + report.places[place[k]].n_subjects;
  return { place, layer: new Uint16Array(buffer(shape.layer)), time: new Uint16Array(buffer(shape.time)), offsets };
});

const n = report.checkpoints.name.length;
const shapeOf = (c) => shapes[report.checkpoints.shape[c]];
const starts = new Uint32Array(n + 1);
for (let c = 0; c < n; c++) starts[c + 1] = starts[c] + shapeOf(c).place.length;
// Where the subjects of a checkpoint's first row are; -1 for checkpoints whose subjects are not in the report.
const subjectStarts = new Int32Array(n).fill(-1);
report.with_subjects.reduce((start, c) => {
  subjectStarts[c] = start;
  return start + shapeOf(c).offsets[shapeOf(c).place.length];
}, 0);

function similarity(stored) {
  return stored === MISSING ? NaN : stored / report.rho_scale;
}

function ceilingOf(place, time) {
  return (place.ceilings ? place.ceilings[time] : place.ceiling) ?? NaN;
}

// The rows of a checkpoint, of one place or of all.
function rowsOf(c, wanted) {
  const shape = shapeOf(c);
  const rows = [];
  for (let k = 0; k < shape.place.length; k++) {
    if (wanted !== undefined && shape.place[k] !== wanted) continue;
    const i = starts[c] + k;
    rows.push({
      k, place: shape.place[k], layer: shape.layer[k], time: shape.time[k], percent: columns.percent[i],
      low: columns.low[i], high: columns.high[i], rho: similarity(columns.rho[i]),
    });
  }
  return rows;
}

// Each subject's percent of the noise ceiling; none if the report lacks them.
function subjectsOf(c, row) {
  if (subjectStarts[c] < 0) return [];
  const place = report.places[row.place];
  const offset = subjectStarts[c] + shapeOf(c).offsets[row.k];
  const ceiling = ceilingOf(place, row.time);
  return Array.from(columns.subjects.subarray(offset, offset + place.n_subjects), (stored) => {
    const value = similarity(stored);
    return (100 * (place.squared ? value * value : value)) / ceiling;
  });
}

// The best layer of each checkpoint for each place, at its best time.
const best = report.places.map(() => ({ percent: new Float32Array(n).fill(NaN), layer: new Int32Array(n).fill(-1), time: new Int32Array(n) }));
for (let c = 0; c < n; c++) {
  const shape = shapeOf(c);
  for (let k = 0; k < shape.place.length; k++) {
    const found = best[shape.place[k]];
    const percent = columns.percent[starts[c] + k];
    if (percent > found.percent[c] || (Number.isNaN(found.percent[c]) && !Number.isNaN(percent))) {
      found.percent[c] = percent;
      found.layer[c] = shape.layer[k];
      found.time[c] = shape.time[k];
    }
  }
}

// Layers of a checkpoint in order, from input to output.
function layersOf(c) {
  return [...new Set(shapeOf(c).layer)];
}

const placeName = (place) => place.name;

const text = (number, digits = 1) => (number === null || Number.isNaN(number) ? "–" : number.toFixed(digits));
const interval = (row) => (Number.isNaN(row.low) ? "" : ` [${text(row.low)}, ${text(row.high)}]`);
const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
