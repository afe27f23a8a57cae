// The table of checkpoints: columns that sort, a filter, pages.

const PAGE = 25;
const MOST_PRINTED = 200; // Rows on paper.
const table = { columns: [], order: [], page: 0, sort: null, isDescending: false, isPrinted: false };

// The folder that all checkpoints have in common is left out in the table.
const folder = report.checkpoints.name.reduce((common, name) => {
  while (!name.startsWith(common)) common = common.slice(0, common.lastIndexOf("/", common.length - 2) + 1);
  return common;
}, (report.checkpoints.name[0] ?? "").replace(/[^/]*$/, ""));

const collator = new Intl.Collator("en", { numeric: true });

// Columns: their identity, name, heading, whether they hold numbers, and the value and the note of a checkpoint.
function makeColumns(places) {
  const facts = report.checkpoints;
  const made = [{ id: "checkpoint", name: "checkpoint", value: (c) => facts.name[c], show: (c) => facts.name[c].slice(folder.length) }];
  const labels = report.labels.map((label) => ({ id: `label ${label.name}`, name: label.name, isNumber: label.is_number, isLabel: true, value: (c) => label.values[c] }));
  // Labels must not push the scores out of sight.
  const isFirst = (label) => label.name === report.progress;
  made.push(...labels.filter(isFirst));
  for (const score of report.scores) {
    if (score.measure !== state.measure) continue;
    made.push({
      id: score.name, name: score.name, heading: score.name.replace(" ", "\n"), isNumber: true, digits: 1, help: score.help, value: (c) => score.percent[c],
      note: (c) => report.layers[score.layer[c]],
    });
  }
  for (const p of places) {
    const name = placeName(report.places[p]);
    const times = report.places[p].times;
    made.push({
      id: `place ${p}`, name, heading: `${name}\n%`, isNumber: true, digits: 1, value: (c) => best[p].percent[c],
      note: (c) => (best[p].layer[c] < 0 ? "" : report.layers[best[p].layer[c]] + (times ? ` at ${times[best[p].time[c]]}` : "")),
    });
  }
  made.push(...labels.filter((label) => !isFirst(label)));
  if (report.archs.length > 1) made.push({ id: "arch", name: "arch", value: (c) => report.archs[facts.arch[c]] });
  if (report.settings.length > 1) made.push({ id: "settings", name: "settings", value: (c) => report.settings[facts.settings[c]] });
  return made;
}

const isMissing = (value) => value === null || value === undefined || value === "" || Number.isNaN(value);

function compare(a, b, isNumber) {
  return isNumber ? a - b : collator.compare(a, b);
}

// A filter is words that a checkpoint's texts contain, and conditions such as epoch>=10.
function readFilter(wanted) {
  const tests = [];
  let rest = wanted;
  const condition = /("[^"]*"|[^\s<>=!"]+)\s*(<=|>=|!=|=|<|>)\s*("[^"]*"|\S+)/g;
  rest = rest.replace(condition, (whole, name, op, value) => {
    const plain = name.replaceAll('"', "").toLowerCase();
    const column = table.columns.find((each) => each.name.toLowerCase() === plain);
    if (!column) return whole;
    const given = value.replaceAll('"', "");
    const number = Number(given);
    tests.push((c) => {
      const found = column.value(c);
      if (isMissing(found)) return op === "!=";
      const order = column.isNumber ? found - number : collator.compare(String(found), given);
      return { "<=": order <= 0, ">=": order >= 0, "!=": order !== 0, "=": order === 0, "<": order < 0, ">": order > 0 }[op];
    });
    return " ";
  });
  const words = rest.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length) {
    const texts = table.columns.filter((each) => !each.isNumber || each.isLabel || each.note);
    tests.push((c) => {
      const all = texts.map((each) => (each.note ? each.note(c) : each.value(c)) ?? "").join("\n").toLowerCase();
      return words.every((word) => all.includes(word));
    });
  }
  return (c) => tests.every((test) => test(c));
}

function orderTable() {
  const test = readFilter(byId("filter").value);
  const found = [];
  for (let c = 0; c < n; c++) if (test(c)) found.push(c);
  const column = table.columns.find((each) => each.id === table.sort);
  if (column) {
    const sign = table.isDescending ? -1 : 1;
    const keyed = found.map((c) => [c, column.value(c)]);
    // Missing values are last in both directions; equal values keep the order of the store.
    keyed.sort(([, a], [, b]) => isMissing(a) - isMissing(b) || (isMissing(a) ? 0 : sign * compare(a, b, column.isNumber)));
    table.order = keyed.map(([c]) => c);
  } else table.order = found;
}

function sortBy(column) {
  if (table.sort === column.id) table.isDescending = !table.isDescending;
  else [table.sort, table.isDescending] = [column.id, Boolean(column.isNumber && !column.isLabel)];
  table.page = 0;
  orderTable();
  drawTable();
  const headings = [...byId("table").tHead.querySelectorAll("button")];
  headings[table.columns.indexOf(column)].focus();
  say(`Sorted by ${column.name}, ${table.isDescending ? "descending" : "ascending"}.`);
}

function headCells() {
  return table.columns.map((column) => {
    const button = element("button", column.heading ?? column.name, { type: "button", title: column.help ?? "" });
    button.addEventListener("click", () => sortBy(column));
    return button;
  });
}

function drawTable() {
  const last = Math.max(0, Math.ceil(table.order.length / PAGE) - 1);
  table.page = Math.min(table.page, last);
  const shown = table.isPrinted ? table.order.slice(0, MOST_PRINTED) : table.order.slice(table.page * PAGE, (table.page + 1) * PAGE);
  fillTable("table", headCells(), shown.map(checkpointCells));
  [...byId("table").tHead.rows[0].cells].forEach((cell, i) => {
    const column = table.columns[i];
    if (column.isNumber) cell.className = "number";
    cell.ariaSort = column.id !== table.sort ? "none" : table.isDescending ? "descending" : "ascending";
  });
  [...byId("table").tBodies[0].rows].forEach((row, i) => {
    row.dataset.checkpoint = shown[i];
    for (const [k, cell] of [...row.cells].entries()) if (k && !table.columns[k].isNumber) cell.className = "text";
  });
  markChosen();
  const count = table.order.length;
  byId("table-caption").textContent = `${count === n ? counted(n, "checkpoint") : `${counted(count, "checkpoint")} of ${n.toLocaleString("en")}`}; for each region the best layer, in percent of the noise ceiling${folder && n > 1 ? `; paths are in ${folder}` : ""}`;
  const cut = shown.length < count ? `The first ${shown.length} of ${counted(count, "checkpoint")}; sort or filter to print others.` : "";
  byId("page").textContent = table.isPrinted ? cut : `Page ${table.page + 1} of ${last + 1}`;
  byId("previous").disabled = table.page === 0;
  byId("next").disabled = table.page === last;
}

function checkpointCells(c) {
  return table.columns.map((column, i) => {
    const value = column.value(c);
    if (i === 0) {
      const button = element("button", breakable(column.show(c)), { type: "button", title: value });
      button.addEventListener("click", (event) => {
        selectCheckpoint(c);
        // Where the details are below the table, a tap shows them; with the keyboard (detail 0), the focus stays in view.
        if (event.detail && matchMedia("(max-width: 1179px)").matches) byId("checkpoint-title").scrollIntoView();
      });
      return button;
    }
    if (!column.isNumber) return value;
    const shown = isMissing(value) ? "–" : column.digits ? value.toFixed(column.digits) : String(value);
    return { text: shown, number: true, note: column.note?.(c) };
  });
}

function markChosen() {
  for (const row of byId("table").tBodies[0].rows) {
    const isChosen = Number(row.dataset.checkpoint) === state.checkpoint;
    row.className = isChosen ? "chosen" : "";
    row.querySelector("button").ariaPressed = isChosen;
  }
}

function turnPage(step) {
  table.page += step;
  drawTable();
  say(byId("page").textContent);
}

// Arrow keys move between the checkpoints of a page.
function moveInTable(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || event.target.tagName !== "BUTTON") return;
  const buttons = [...event.currentTarget.querySelectorAll("button")];
  buttons[buttons.indexOf(event.target) + step]?.focus();
  event.preventDefault();
}

// On paper, the table has all rows, up to a number of them.
function printTable(isPrinted) {
  table.isPrinted = isPrinted;
  drawTable();
}

function prepareTable(places) {
  table.columns = makeColumns(places);
  orderTable();
  drawTable();
}
