"use strict";
const strings = JSON.parse(document.getElementById("strings").textContent);
const results = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search).get("language") ?? navigator.language ?? "en";
let language = asked.startsWith("ko") ? "ko" : "en";
let theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
const hidden = new Set();

const say = (key, words = {}) => strings[language][key].replace(/\{(\w+)\}/g, (_, name) => words[name]);
const names = () => [...new Set(results.flatMap((r) => r.ranking))];
const order = () => [...new Set(results.flatMap((r) => r.settings.methods))];
const PENS = 18, FIRST = 12; // more methods than there are pens: pens go to those shown, at first the best
const pen = (name) => (order().length <= PENS ? order() : order().filter((m) => !hidden.has(m) || m === name)).indexOf(name);
const color = (name) => `var(--c${pen(name) % 6})`;
const dash = (name) => ["", "7 4", "2 3"][Math.floor(pen(name) / 6) % 3];
const fixed = (value, count = 3) => (value === null || value === undefined ? "–" : value.toFixed(count));
const share = (value) => `${(100 * value).toFixed(0)} %`;
const head = (r) => `${r.device}, ${r.date}`;

function element(tag, words = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(words)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

function table(caption, columns, rows) {
  const row = (cells, tag) => element("tr", {}, ...cells.map((c) => element(tag, tag === "th" ? { scope: "col" } : {}, c)));
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    element("table", {}, element("caption", {}, caption),
      element("thead", {}, row(columns, "th")), element("tbody", {}, ...rows.map((r) => row(r.map(String), "td")))));
}

function svg(tag, words, ...inside) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(words)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

const W = 640, H = 400, LEFT = 62, RIGHT = 16, TOP = 14, BOTTOM = 48;

function ticks(low, high, log) {
  if (log) {
    const all = [];
    for (let e = Math.floor(low); e <= Math.ceil(high); e++)
      for (const m of high - low < 1.6 ? [1, 2, 5] : [1]) all.push(e + Math.log10(m));
    let kept = all.filter((t) => t >= low - 1e-9 && t <= high + 1e-9);
    if (kept.length < 2) kept = [0, 0.5, 1].map((s) => low + s * (high - low));
    return kept.map((t) => [t, Number((10 ** t).toPrecision(2)).toString()]);
  }
  return [0, 0.25, 0.5, 0.75, 1].map((s) => [low + s * (high - low), Number((low + s * (high - low)).toFixed(2)).toString()]);
}

function plot(label, lines, { x, y, xlog = false, ylog = false, goal = null, stairs = false }) {
  const to = (log) => (v) => (log ? Math.log10(v) : v);
  const [fx, fy] = [to(xlog), to(ylog)];
  const px = (v) => LEFT + ((fx(v) - x[0]) / (x[1] - x[0])) * (W - LEFT - RIGHT);
  const py = (v) => H - BOTTOM - ((Math.min(fy(v), y[1]) - y[0]) / (y[1] - y[0])) * (H - TOP - BOTTOM);
  const made = svg("svg", { viewBox: `0 0 ${W} ${H}`, class: "plot", role: "img", "aria-label": label.title });
  for (const [t, text] of ticks(...x, xlog)) {
    const at = LEFT + ((t - x[0]) / (x[1] - x[0])) * (W - LEFT - RIGHT);
    made.append(svg("line", { class: "grid", x1: at, x2: at, y1: TOP, y2: H - BOTTOM }),
      svg("text", { x: at, y: H - BOTTOM + 18, "text-anchor": "middle" }, text));
  }
  for (const [t, text] of ticks(...y, ylog)) {
    const at = H - BOTTOM - ((t - y[0]) / (y[1] - y[0])) * (H - TOP - BOTTOM);
    made.append(svg("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: at, y2: at }),
      svg("text", { x: LEFT - 6, y: at + 4, "text-anchor": "end" }, text));
  }
  made.append(svg("text", { x: (W + LEFT) / 2, y: H - 8, "text-anchor": "middle" }, label.x));
  if (goal !== null) made.append(svg("line", { class: "goal", x1: LEFT, x2: W - RIGHT, y1: py(goal), y2: py(goal) }));
  for (const [name, points] of lines) {
    if (hidden.has(name)) continue;
    let d = "", before = null;
    for (const [a, b] of points) {
      if (b === null) { before = null; continue; }
      const [u, v] = [px(a).toFixed(1), py(b).toFixed(1)];
      d += before === null ? `M${u} ${v}` : stairs ? `H${u}V${v}` : `L${u} ${v}`;
      before = v;
    }
    const path = svg("path", { d, "data-method": name, "stroke-dasharray": dash(name) }, svg("title", {}, name));
    path.style.stroke = color(name);
    made.append(path);
  }
  return made;
}

function each(id, draw) {
  $(id).replaceChildren(...results.map((r) => element("div", {}, ...(results.length > 1 ? [element("h3", {}, head(r))] : []), draw(r))));
}

function profiles(r, kind) {
  const median = (cell) => (kind === "one" ? cell.one.median : cell.median);
  const least = r.results.map((p) => Math.min(...r.settings.methods.map((m) => median(p[m]) ?? Infinity)));
  return r.settings.methods.map((m) => {
    const ratios = r.results.map((p, i) => {
      const t = median(p[m]);
      return t === null ? Infinity : t <= least[i] ? 1 : t / least[i];
    }).sort((a, b) => a - b);
    const at = (x) => ratios.filter((v) => v <= x).length / ratios.length;
    return [m, [1, ...new Set(ratios.filter((v) => v > 1 && v <= 4)), 4].map((x) => [x, at(x)])];
  });
}

function drawProfile() {
  const kind = document.querySelector("input[name=kind]:checked").value;
  each("profile", (r) => plot({ title: say("profile_title"), x: say("profile_x") }, profiles(r, kind), { x: [1, 4], y: [0, 1], stairs: true }));
}

function drawCurve() {
  each("curve", (r) => {
    const i = r.problems.findIndex((p) => `${p.task} ${p.level}` === $("problem").value);
    if (i < 0) return element("p", {}, say("absent"));
    const p = r.problems[i];
    const shown = r.settings.methods.filter((m) => !hidden.has(m));
    const values = shown.flatMap((m) => r.results[i][m].curve).filter((v) => v !== null && v > 0 && v <= 3 * p.start);
    if (p.target > 0) values.push(p.target);
    const y = [Math.log10(Math.min(...values)) - 0.05, Math.log10(Math.max(...values)) + 0.05];
    const lines = r.settings.methods.map((m) => {
      const c = r.results[i][m].curve;
      return [m, c.map((v, k) => [(k / (c.length - 1)) * p.steps, v === null || v <= 0 ? null : v])];
    });
    const drawn = plot({ title: `${p.task} ${p.level}`, x: say("curve_x") }, lines, { x: [0, p.steps], y, ylog: true, goal: p.target });
    return element("div", {}, drawn, element("p", { class: "small" }, say("curve_note", { metric: p.metric, target: p.target ?? "–", value: p.value })));
  });
}

function drawRate() {
  each("rate", (r) => {
    const all = Object.values(r.methods).flatMap((m) => m.trials.map((t) => t[0]));
    const x = [Math.log10(Math.min(...all)), Math.log10(Math.max(...all))];
    const lines = r.settings.methods.map((m) => [m, r.methods[m].trials.map((t, i) => [t[0], r.methods[m].tried[i]]).sort((a, b) => a[0] - b[0])]);
    return plot({ title: say("rate_title"), x: say("rate_x") }, lines, { x, y: [0, 1], xlog: true });
  });
}

function kendall(a, b) {
  let sum = 0, pairs = 0;
  for (let i = 0; i < a.length; i++) for (let j = i + 1; j < a.length; j++) { sum += b.indexOf(a[i]) < b.indexOf(a[j]) ? 1 : -1; pairs++; }
  return sum / pairs;
}

function drawTables() {
  const columns = ["method", "area", "score", "reached", "wins", "losses", "one_area", "one_score", "one_reached", "tried", "bytes", "time", "cpu"].map((k) => say(`column_${k}`));
  $("table").replaceChildren(...results.map((r) => table(head(r), columns, r.ranking.map((name) => {
    const m = r.methods[name];
    return [name, fixed(m.area), `${fixed(m.score)} ± ${fixed(m.error, 4)}`, share(m.reached),
      ...[0, 1].map((side) => r.claims.suite.filter((c) => c[side] === name).length), fixed(m.one_area), fixed(m.one_score), share(m.one_reached),
      share(m.tried.reduce((a, b) => a + b) / m.tried.length), fixed(m.bytes, 1), fixed(m.step_microseconds, 1), fixed(m.step_cpu_microseconds, 1)];
  }))));
  $("agreement").replaceChildren();
  if (results.length > 1) {
    const [a, b] = results.map((r) => r.ranking.filter((m) => results.every((o) => o.ranking.includes(m))));
    $("agreement").append(element("p", {}, say("agreement", { tau: fixed(kendall(a, b), 2), count: a.length, first: a.slice(0, 3).join(", "), second: b.slice(0, 3).join(", ") })));
  }
  drawShown();
}

function drawShown() {
  const both = (a, b) => !hidden.has(a) && !hidden.has(b);
  const ranked = (r) => r.ranking.filter((m) => !hidden.has(m));
  $("claims").replaceChildren(...results.map((r) => {
    const rows = r.claims.suite.filter(([a, b]) => both(a, b)).map(([a, b, d, s, z]) => [a, b, `${fixed(d)} ± ${fixed(s)}`, fixed(z, 1)]);
    const count = {};
    for (const [a, b] of r.claims.problems) count[`${a} ${b}`] = (count[`${a} ${b}`] || 0) + 1;
    const shown = ranked(r).map((a) => [a, ...ranked(r).map((b) => (a === b ? "" : count[`${a} ${b}`] || 0))]);
    return element("div", {},
      rows.length ? table(`${head(r)}: ${say("claims_suite")}`, ["winner", "loser", "gap", "z"].map((k) => say(`column_${k}`)), rows) : element("p", {}, `${head(r)}: ${say("no_claims")}`),
      table(say("claims_problems", { count: r.problems.length }), [say("column_method"), ...ranked(r)], shown));
  }));
  $("problems").replaceChildren(...results.map((r) => table(head(r), [say("column_problem"), say("column_target"), ...ranked(r)], r.problems.map((p, i) =>
    [`${p.task} ${p.level}${p.learned ? "" : " *"}`, p.target === null ? "–" : p.target.toPrecision(3), ...ranked(r).map((m) => {
      const c = r.results[i][m];
      return `${c.reached < c.times.length ? (c.reached ? "≥ " : "> ") : ""}${fixed(c.score, 2)}${c.reached < c.times.length && c.reached ? ` (${c.reached}/${c.times.length})` : ""}`;
    })]))));
}

function drawLegend() {
  const box = $("legend");
  box.replaceChildren(box.querySelector("legend"), ...(order().length > PENS ? names() : order()).map((name) => {
    const input = element("input", { type: "checkbox" });
    input.checked = !hidden.has(name);
    input.addEventListener("change", () => { input.checked ? hidden.delete(name) : hidden.add(name); order().length > PENS ? drawLegend() : 0; drawPlots(); drawShown(); });
    const path = svg("path", { d: "M0 6H32", "stroke-dasharray": dash(name) });
    path.style.stroke = color(name);
    return element("label", {}, input, svg("svg", { viewBox: "0 0 32 12", "aria-hidden": "true" }, path), name);
  }));
}

function drawAbout() {
  each("about", (r) => element("p", { class: "small" }, say("about", {
    device: r.device, devices: r.devices, date: r.date, scale: r.settings.scale, trials: r.settings.trials, tuning: r.settings.tuning_seeds,
    seeds: r.settings.seeds, problems: r.problems.length, minutes: fixed(r.seconds / 60, 1), cpu: fixed(r.cpu_seconds / 60, 1), programs: r.programs,
    versions: Object.entries(r.versions).map((pair) => pair.join(" ")).join(", "),
  })));
}

function hideMost() {
  if (order().length > PENS && !hidden.size) for (const name of names().slice(FIRST)) hidden.add(name);
}

function drawPlots() { drawProfile(); drawCurve(); drawRate(); }

function draw() {
  document.documentElement.lang = language;
  document.documentElement.dataset.theme = theme;
  document.title = say("title");
  for (const e of document.querySelectorAll("[data-text]")) e.textContent = say(e.dataset.text === "theme" ? `theme_${theme}` : e.dataset.text);
  for (const e of document.querySelectorAll("[data-label]")) e.setAttribute("aria-label", say(e.dataset.label));
  const chosen = $("problem").value;
  const problems = [...new Set(results.flatMap((r) => r.problems.map((p) => `${p.task} ${p.level}`)))];
  $("problem").replaceChildren(...problems.map((p) => element("option", { value: p }, p)));
  $("problem").value = problems.includes(chosen) ? chosen : problems.includes("transformer easy") ? "transformer easy" : problems[0];
  drawAbout(); drawTables(); drawLegend(); drawPlots();
  document.body.dataset.ready = "yes";
}

$("language").addEventListener("click", () => { language = language === "en" ? "ko" : "en"; draw(); });
$("theme").addEventListener("click", () => { theme = theme === "dark" ? "light" : "dark"; draw(); });
$("problem").addEventListener("change", drawCurve);
for (const radio of document.querySelectorAll("input[name=kind]")) radio.addEventListener("change", drawProfile);
$("file").addEventListener("change", async () => {
  $("file-error").textContent = "";
  try {
    const found = JSON.parse(await $("file").files[0].text());
    if (found.format !== 1 || !found.ranking) throw new Error();
    results.splice(1, 1, found);
    hideMost();
    draw();
  } catch { $("file-error").textContent = say("not_a_result"); }
});
hideMost();
draw();
