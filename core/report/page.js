"use strict";
// Filters, details, the map and decisions. All texts are set as text, never as HTML.
const report = JSON.parse(document.getElementById("data").textContent);
const items = report.rows.map((row, i) => {
  const figure = document.getElementById("i" + i);
  return { ...row, i, figure, home: figure.parentNode, image: figure.querySelector("img") };
});
const homes = new Map();
for (const item of items) {
  if (!homes.has(item.home)) homes.set(item.home, [...item.home.children]);
}
const dots = new Map(
  [...document.querySelectorAll("#map circle")].map((dot) => [+dot.dataset.i, dot]));

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// --- decisions ----------------------------------------------------------------------------------

const KEY = "character-curator " + report.name + " " + report.fingerprint;
const given = JSON.stringify(report.decisions);
const decisions = new Map();
recall();

function recall() {
  decisions.clear();
  for (const one of remembered()) decisions.set(one.hash, one);
}

function remembered() {
  try {
    const stored = JSON.parse(localStorage.getItem(KEY));
    if (stored && stored.given === given) return stored.decisions;
  } catch { /* a browser without storage starts from the page's own */ }
  return report.decisions;
}

function listed() {
  const order = (one) => one.decision + one.hash;
  return [...decisions.values()].sort((a, b) => (order(a) < order(b) ? -1 : 1));
}

function decide(item, decision) {
  if (!item.hash) return say(item.path + " has no content that could be decided on.");
  if (decision === "keep" && !item.open) {
    return say(item.path + " was rejected before the selection (" + item.reason +
      "): it cannot be kept. Change the threshold that turned it away.");
  }
  if (decision) decisions.set(item.hash, { hash: item.hash, decision, name: item.path });
  else decisions.delete(item.hash);
  const kept = keepInBrowser();
  say(item.path + ": " + (decision || "undecided") +
    (kept ? "" : ". This browser keeps nothing: save your decisions before you close the page."));
}

function keepInBrowser() {
  mark();
  try {
    localStorage.setItem(KEY, JSON.stringify({ given, decisions: listed() }));
  } catch {
    return false;
  }
  return true;
}

// The same page in another tab: its decisions are taken over, or each tab would undo the other's.
window.addEventListener("storage", (event) => {
  if (event.key !== KEY && event.key !== null) return;
  recall();
  mark();
});

function mark() {
  for (const item of items) {
    const decision = decisions.get(item.hash)?.decision;
    item.figure.classList.toggle("keep", decision === "keep");
    item.figure.classList.toggle("veto", decision === "veto");
  }
  const count = (word) => listed().filter((one) => one.decision === word).length;
  tally.textContent = `${count("keep")} kept, ${count("veto")} vetoed`;
  download.disabled = clear.disabled = !decisions.size;
}

function save() {
  const value = { format: 1, dataset: report.name, decisions: listed() };
  const blob = new Blob([JSON.stringify(value, null, 1) + "\n"], { type: "application/json" });
  const link = make("a", { href: URL.createObjectURL(blob), download: "decisions.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  say("Give it to the next run: character-curator curate … --decisions decisions.json, " +
    "decisions = \"decisions.json\" in [selection], or BalancedSelect.");
}

const tally = make("b", { id: "tally" });
const download = make("button", { id: "download", onclick: save }, "Download decisions");
const clear = make("button", { onclick: () => { decisions.clear(); keepInBrowser(); } },
  "Take all back");
const note = make("span", { id: "note", className: "quiet" });
note.setAttribute("aria-live", "polite");
function say(text) { note.textContent = text; }

// --- filters and order ---------------------------------------------------------------------------

const STATUS = {
  "selected": (item) => item.reason === "selected",
  "left out by the selection": (item) => item.open && item.reason !== "selected",
  "rejected before": (item) => !item.open,
  "kept by you": (item) => decisions.get(item.hash)?.decision === "keep",
  "vetoed by you": (item) => decisions.get(item.hash)?.decision === "veto",
  "undecided": (item) => !decisions.has(item.hash),
};
const ORDERS = {};
report.scores.forEach((score, k) => {
  ORDERS[score.label + ", falling"] = [(item) => item.scores[k], -1];
  ORDERS[score.label + ", rising"] = [(item) => item.scores[k], 1];
});
if (items.some((item) => item.price !== null)) {
  ORDERS["Price of forcing it in"] = [(item) => item.price, 1];
}
if (items.some((item) => item.near)) {
  ORDERS["Alike to a chosen one, falling"] = [(item) => item.near && item.near[1], -1];
}

function values(key) {
  const found = [...new Set(items.map((item) => item[key]).filter((value) => value !== null))];
  return found.sort((a, b) => (typeof a === "number" && typeof b === "number"
    ? a - b : String(a).localeCompare(String(b))));
}

function choice(label, id, options, name = String) {
  const select = make("select", { id, oninput: apply }, new Option("any", ""));
  options.forEach((value, k) => select.add(new Option(name(value), k)));
  const whole = make("label", {}, label, select);
  whole.hidden = options.length < 2 && id !== "order";
  return { whole, select, chosen: () => (select.value === "" ? undefined : options[+select.value]) };
}

const clusterName = (value) =>
  value + (report.clusters[value] ? " " + report.clusters[value] : "");
const controls = {
  status: choice("Status", "status", Object.keys(STATUS)),
  reason: choice("Reason", "reason", values("reason")),
  seed: choice("Seed", "seed", values("seed")),
  scenario: choice("Scenario", "scenario", values("scenario")),
  cluster: choice("Cluster", "cluster", values("cluster"), clusterName),
  order: choice("Order", "order", Object.keys(ORDERS)),
};
controls.order.select.options[0].text = "as grouped";
const word = make("input", { type: "search", id: "word", placeholder: "name or reason",
  oninput: apply });
const matched = make("output", { id: "matched", className: "quiet" });
const flat = make("div", { className: "tiles", id: "flat" });
let matching = items;

function matches(item, words) {
  const status = controls.status.chosen();
  if (status && !STATUS[status](item)) return false;
  for (const key of ["reason", "seed", "scenario", "cluster"]) {
    const wanted = controls[key].chosen();
    if (wanted !== undefined && item[key] !== wanted) return false;
  }
  const text = words.length ? (item.path + " " + item.figure.title).toLowerCase() : "";
  return words.every((one) => text.includes(one));
}

function apply() {
  const words = word.value.toLowerCase().split(/\s+/).filter(Boolean);
  matching = items.filter((item) => matches(item, words));
  const order = ORDERS[controls.order.chosen()];
  const active = order || matching.length < items.length;
  for (const [home, figures] of homes) home.replaceChildren(...figures);
  if (active) {
    const shown = order ? matching.slice().sort((a, b) => compare(order, a, b)) : matching;
    flat.replaceChildren(...shown.map((item) => item.figure));
  } else flat.replaceChildren();
  document.querySelectorAll(".home").forEach((home) => { home.hidden = Boolean(active); });
  const kept = new Set(matching.map((item) => item.i));
  for (const [i, dot] of dots) dot.classList.toggle("off", !kept.has(i));
  const noun = items.length === 1 ? "image" : "images";
  matched.textContent = active ? `${matching.length} of ${items.length} ${noun}` : "";
}

function compare([value, sign], a, b) {
  const [x, y] = [value(a), value(b)];
  if (x === null || y === null || x === y) return (x === null) - (y === null) || a.i - b.i;
  return sign * (x - y);
}

// --- details -------------------------------------------------------------------------------------

const detail = make("dialog", { id: "detail" });
let open = null;

function small(i) {
  const item = items[i];
  const image = item.image
    ? make("img", { src: item.image.src, alt: item.path, title: item.path })
    : make("span", { className: "blank", title: item.path }, "unreadable");
  return make("button", { className: "small", onclick: () => show(item) }, image);
}

function part(title, ...children) {
  return children.length ? [make("h3", {}, title), make("div", { className: "smalls" },
    ...children)] : [];
}

function show(item) {
  open = item;
  const [width, height] = item.size;
  const link = item.figure.querySelector("a");
  const decision = decisions.get(item.hash)?.decision;
  const facts = [item.reason, width && `${width} × ${height}`,
    item.seed !== null && "seed " + item.seed, item.scenario !== null && "scenario " + item.scenario,
    item.cluster !== null && "cluster " + clusterName(item.cluster)].filter(Boolean);
  const scores = make("table", {}, ...report.scores.map(({ label, least }, k) => {
    const score = item.scores[k];
    const told = score === null ? "not measured" : score.toFixed(3);
    const limit = make("td", {}, least === null ? "" : "at least " + least);
    if (least !== null && score !== null) {
      limit.append(make("span", { className: score >= least ? "met" : "missed" },
        score >= least ? " ✓" : " ✗"));
    }
    return make("tr", {}, make("td", {}, label), make("td", { className: "number" }, told), limit);
  }));
  const why = document.querySelectorAll("#rows tbody tr")[item.i].lastElementChild;
  const group = item.group === null ? [] : items.filter((one) => one.group === item.group);
  const near = item.near ? part(
    `Most alike of the chosen: ${items[item.near[0]].path} (${item.near[1].toFixed(3)})`,
    small(item.near[0])) : [];
  detail.replaceChildren(
    make("form", { method: "dialog" }, make("button", { ariaLabel: "Close" }, "✕")),
    make("h2", {}, item.path),
    make("div", { className: "large" },
      item.image ? make("img", { src: item.image.src, alt: item.path }) : "unreadable"),
    make("p", {}, facts.join(" · ")),
    ...[...why.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE)
      .map((node) => make("p", { className: "why" }, node.data)),
    make("p", { className: "buttons" },
      make("button", { onclick: () => act("keep") }, decision === "keep" ? "Kept" : "Keep (K)"),
      make("button", { onclick: () => act("veto") }, decision === "veto" ? "Vetoed" : "Veto (V)"),
      make("button", { onclick: () => act("") }, "Undecided (U)"),
      ...(link ? [make("a", { href: link.href }, "Open the file")] : [])),
    scores,
    ...near,
    ...part("Would leave, were it forced in", ...item.leaves.map(small)),
    ...part("Would enter with it", ...item.enters.map(small)),
    ...part("Its group of near-duplicates", ...group.map((one) => small(one.i))),
    ...(item.prompt ? [make("h3", {}, "Prompt or caption"), make("p", {}, item.prompt)] : []),
  );
  if (!detail.open) detail.showModal();
  focusOn(item, false);
}

function act(decision) {
  decide(open, decision);
  show(open);
}

// --- keys and pointers ---------------------------------------------------------------------------

let current = null;

function focusOn(item, really = true) {
  if (current) { current.figure.tabIndex = -1; light(current, false); }
  current = item;
  item.figure.tabIndex = 0;
  light(item, true);
  if (really) item.figure.focus();
}

function light(item, on) { dots.get(item.i)?.classList.toggle("hot", on); }

function visible() {
  return [...document.querySelectorAll("#flat figure, .home:not([hidden]) figure")]
    .filter((figure) => figure.offsetParent !== null && !figure.closest("details:not([open])"))
    .map((figure) => items[+figure.id.slice(1)]);
}

const ways = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -2, ArrowDown: 2 };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const way = ways[event.key];
  if (way && !current && event.target === document.body) return;
  if (way && current) {
    const shown = visible();
    const columns = getComputedStyle(current.figure.parentNode).gridTemplateColumns.split(" ").length;
    const step = Math.abs(way) === 2 && !detail.open ? (way / 2) * columns : Math.sign(way);
    const next = shown[shown.indexOf(current) + step];
    if (next) { if (detail.open) show(next); else focusOn(next); }
    event.preventDefault();
    return;
  }
  const decision = { k: "keep", v: "veto", u: "" }[event.key.toLowerCase()];
  const item = detail.open ? open : current;
  if (decision !== undefined && item) {
    decide(item, decision);
    if (detail.open) show(item);
    event.preventDefault();
  } else if (event.key === "Enter" && event.target.tagName === "FIGURE") show(current);
});
document.addEventListener("focusin", (event) => {
  const figure = event.target.closest?.("figure");
  if (figure?.id) focusOn(items[+figure.id.slice(1)], false);
});
document.addEventListener("click", (event) => {
  const figure = event.target.closest("figure");
  const link = event.target.closest("a[href^='#i']");
  const i = figure?.id ? figure.id.slice(1) : link?.getAttribute("href").slice(2);
  if (i === undefined || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  show(items[+i]);
});
detail.addEventListener("close", () => {
  if (current?.figure.offsetParent) current.figure.focus();
});

document.querySelectorAll("#groups, details").forEach((box) => box.addEventListener("toggle", () => {
  for (const group of box.querySelectorAll(".group:not(.drawn)")) {
    group.classList.add("drawn");
    const shown = group.dataset.shown.split(" ").map(Number);
    group.append(make("div", { className: "smalls" }, ...shown.map(small)));
  }
}));

document.getElementById("gallery").append(
  make("div", { id: "filters" }, ...Object.values(controls).map((one) => one.whole),
    make("label", {}, "Words", word), matched),
  make("p", { id: "decided" }, tally, download, clear, note),
  make("p", { className: "quiet" },
    "Click an image, or walk with the arrow keys: Enter shows it, K keeps it, V vetoes it, U takes " +
    "that back. Decisions stay in this browser; download them for the next run."),
  flat,
);
document.getElementById("gallery").hidden = false;
document.body.append(detail);
for (const item of items) item.figure.tabIndex = -1;
const first = document.querySelector(".home figure");
if (first) first.tabIndex = 0;
mark();

// --- the list of every candidate ------------------------------------------------------------------

const field = document.getElementById("search");
let rows = null;
field.addEventListener("input", () => {
  rows ??= [...document.querySelectorAll("#rows tbody tr")].map(
    (row) => [row, row.textContent.toLowerCase()]);
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const [row, text] of rows) {
    row.hidden = !words.every((one) => text.includes(one));
    found += !row.hidden;
  }
  document.getElementById("found").textContent = words.length ? found + " found" : "";
});
