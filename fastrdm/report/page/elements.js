// Names reach the page only as text, never as markup.

const byId = (id) => document.getElementById(id);

function element(tag, content = "", properties = {}) {
  const made = document.createElement(tag);
  made.append(content);
  return Object.assign(made, properties);
}

// A path whose lines break after slashes.
function breakable(path) {
  const made = document.createDocumentFragment();
  for (const part of path.split(/(?<=\/)/)) made.append(part, document.createElement("wbr"));
  return made;
}

// The end of a long name, where names of layers differ.
function shortened(name, most = 18) {
  const letters = [...name];
  return letters.length > most ? `…${letters.slice(1 - most).join("")}` : name;
}

function fill(parent, children) {
  parent.replaceChildren(...children);
}

// Rows of cells: a text, or a node, or {text, note, number}; the first cell of a row is its header.
function fillTable(id, head, rows) {
  const table = byId(id);
  fill(table.tHead, head.length ? [tableRow(head, true)] : []);
  fill(table.tBodies[0], rows.map((row) => tableRow(row, false)));
}

function tableRow(cells, isHead) {
  const row = document.createElement("tr");
  cells.forEach((each, i) => {
    const cell = element(isHead || i === 0 ? "th" : "td");
    if (isHead || i === 0) cell.scope = isHead ? "col" : "row";
    if (each instanceof Node) cell.append(each);
    else if (typeof each === "object" && each !== null) {
      cell.textContent = each.text;
      if (each.number) cell.className = "number";
      if (each.note) cell.append(element("small", shortened(each.note), { title: each.note }));
    } else cell.textContent = each ?? "";
    row.append(cell);
  });
  return row;
}

function fillFacts(id, facts) {
  fill(byId(id), facts.flatMap(([label, value]) => [element("dt", label), element("dd", value)]));
}

function say(message) {
  byId("live").textContent = message;
}
