"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;

document.getElementById("theme").addEventListener("click", () => {
  const chosen = root.style.colorScheme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.style.colorScheme = chosen === "dark" ? "light" : "dark";
});

for (const button of document.querySelectorAll(".sortable thead button")) {
  button.addEventListener("click", () => {
    const heading = button.parentElement, body = button.closest("table").tBodies[0], column = heading.cellIndex;
    const rising = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const value = (row) => row.cells[column].dataset.value;
    const order = (a, b) => a - b || String(a).localeCompare(String(b));
    body.append(...[...body.rows].sort((a, b) => (rising ? 1 : -1) * order(value(a), value(b))));
  });
}

for (const button of document.querySelectorAll("[data-toggle]")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") === "false", name = CSS.escape(button.dataset.toggle);
    for (const other of document.querySelectorAll(`[data-toggle="${name}"]`)) other.setAttribute("aria-pressed", shown);
    for (const line of document.querySelectorAll(`[data-series="${name}"]`)) line.classList.toggle("hidden", !shown);
  });
}

function cells(kind, values) {
  const row = document.createElement("tr");
  values.forEach((value, place) => {
    const cell = document.createElement(kind === "td" && place === 0 ? "th" : kind);
    cell.scope = kind === "td" ? "row" : "col";
    cell.append(value ?? "—");
    row.append(cell);
  });
  return row;
}

function link(run, file) {
  const anchor = document.createElement("a");
  anchor.href = `${run.folder}/${file}`;
  anchor.textContent = file;
  return anchor;
}

function links(run) {
  const all = document.createElement("span");
  all.append(link(run, "result.json"), ", ", link(run, "config.yaml"));
  return all;
}

function picture(run) {
  const figure = document.createElement("figure"), words = document.createElement("figcaption");
  const gallery = data.galleries[run.gallery];
  if (gallery) {
    const image = new Image();
    image.src = gallery.image;
    image.alt = `Queries of ${gallery.name} with their first hits`;
    figure.append(image);
    words.append(gallery.name);
  } else {
    words.append(`${run.name}: no gallery is embedded; if the run drew one, it is `, link(run, "gallery.png"));
  }
  figure.append(words);
  return figure;
}

function compare(first, second) {
  const head = cells("th", ["", first.name, second.name]);
  const number = (value) => (typeof value === "number" ? value.toFixed(4) : value);
  const facts = [["where", first.contest, second.contest]];
  for (const key of Object.keys(first.map)) facts.push([`mAP, ${key}`, number(first.map[key]), number(second.map[key])]);
  for (const key of ["seconds", "device", "commit", "W&B run"]) facts.push([key, first[key], second[key]]);
  facts.push(["record", links(first), links(second)]);
  document.getElementById("facts").replaceChildren(head.cloneNode(true), ...facts.map((fact) => cells("td", fact)));

  const keys = [...new Set([...Object.keys(first.settings), ...Object.keys(second.settings)])].sort();
  const differ = keys.filter((key) => first.settings[key] !== second.settings[key]);
  const rows = differ.map((key) => cells("td", [key, first.settings[key], second.settings[key]]));
  document.getElementById("difference").replaceChildren(...(rows.length ? [head, ...rows] : []));
  const same = data.shared + keys.length - differ.length;
  document.getElementById("count").textContent = `${differ.length} ${differ.length === 1 ? "setting differs" : "settings differ"}, ${same} ${same === 1 ? "is" : "are"} the same.`;
  document.getElementById("galleries").replaceChildren(picture(first), picture(second));
}

if (data.runs.length) {
  const picks = ["first", "second"].map((name) => document.getElementById(name));
  for (const pick of picks) {
    let group = null;
    data.runs.forEach((run, place) => {
      if (group?.label !== run.contest) {
        group = document.createElement("optgroup");
        group.label = run.contest;
        pick.append(group);
      }
      group.append(new Option(run.name, place));
    });
  }
  const show = () => compare(data.runs[picks[0].value], data.runs[picks[1].value]);
  picks[0].value = data.pair[0];
  picks[1].value = data.pair[1];
  for (const pick of picks) pick.addEventListener("change", show);
  show();
}
