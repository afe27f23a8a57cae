// RDMs as pictures: the rank of each dissimilarity, from small (violet) to large (yellow).

const STOPS = ["440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"].map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
const UNKNOWN = 255; // A pair without a dissimilarity; ranks are 0 to 254.

function colourOf(rank) {
  if (rank === UNKNOWN) return [128, 128, 128];
  const place = (rank / 254) * (STOPS.length - 1);
  const i = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[i].map((low, k) => Math.round(low + (place - i) * (STOPS[i + 1][k] - low)));
}
const COLOURS = Array.from({ length: 256 }, (_, rank) => colourOf(rank));

function drawRdm(canvas, ranks) {
  const size = Math.round((1 + Math.sqrt(1 + 8 * ranks.length)) / 2);
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  const image = context.createImageData(size, size);
  const put = (i, j, [r, g, b]) => image.data.set([r, g, b, 255], 4 * (i * size + j));
  for (let i = 0; i < size; i++) put(i, i, COLOURS[0]);
  for (let i = 0, k = 0; i < size; i++) {
    for (let j = i + 1; j < size; j++, k++) {
      put(i, j, COLOURS[ranks[k]]);
      put(j, i, COLOURS[ranks[k]]);
    }
  }
  context.putImageData(image, 0, 0);
  return size;
}

const decodedRdms = new Map();
function ranksOf(k) {
  if (!decodedRdms.has(k)) decodedRdms.set(k, new Uint8Array(buffer(report.rdms[k])));
  return decodedRdms.get(k);
}

function rdmFigure(k, caption) {
  const canvas = document.createElement("canvas");
  const size = drawRdm(canvas, ranksOf(k));
  canvas.role = "img";
  canvas.ariaLabel = `Heat map of the ${size} × ${size} RDM: ${caption}`;
  const scale = element("div", "", { className: "scale" });
  const ends = element("div", element("span", "similar"), { className: "ends" });
  ends.append(element("span", "rank"), element("span", "dissimilar"));
  const figure = element("figure", canvas);
  figure.append(scale, ends, element("figcaption", caption));
  return figure;
}

function drawRdms() {
  const layer = report.layers[state.layer];
  byId("rdms-title").textContent = layer === undefined ? "RDMs" : `RDM of ${layer}, and the brain's`;
  const kept = report.checkpoint_rdms[state.checkpoint] ?? [];
  const studies = [...new Set(placesOfMeasure().map((p) => report.places[p].study))];
  const own = kept.filter(([study, of]) => of === state.layer && studies.includes(study));
  // A row of pictures for each study: the layer's RDM beside those of the regions.
  const rows = studies.map((study) => {
    const ofStudy = report.studies.length > 1 ? `, images of ${study}` : "";
    const layers = own.filter(([of]) => of === study).map(([, , k]) => rdmFigure(k, `${layer}${ofStudy}`));
    const brains = report.brain_rdms.filter((brain) => brain.study === study);
    const row = element("div", "", { className: "pictures" });
    row.append(...layers, ...brains.map((brain) => rdmFigure(brain.rdm, `${placeName(brain)}, mean of ${counted(brain.n_subjects, "subject")}`)));
    return row;
  });
  fill(byId("rdm-pictures"), rows);
  const notes = [];
  if (!own.length) notes.push(report.rdm_notes.layers);
  if (!report.brain_rdms.length) notes.push(report.rdm_notes.brain);
  byId("rdms-help").textContent = notes.join(" ");
}
