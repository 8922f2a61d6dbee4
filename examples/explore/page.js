"use strict";

// Draws what explore.py has computed. No path is computed here.

const DATA = JSON.parse(document.getElementById("data").textContent);
const LANGUAGES = ["en", "ko"];
const $ = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");

let language = navigator.language.startsWith("ko") ? "ko" : "en";
let theme = dark.matches ? "dark" : "light";

// ---- words and numbers -----------------------------------------------------------------------------------

const text = (key, values = {}) => DATA.strings[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
const pick = (pair) => pair[LANGUAGES.indexOf(language)];
const titleOf = (method) => pick(DATA.methods[method]);

function number(value, digits = 3) {
  if (value === null || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const plain = size === 0 || (size >= 1e-3 && size < 1e5);
  const shown = plain ? String(Number(value.toPrecision(digits))) : value.toExponential(digits - 1);
  return shown.replace("-", "−").replace("e+", "e");
}

function translate() {
  document.documentElement.lang = language;
  document.title = text("title");
  for (const each of document.querySelectorAll("[data-text]")) each.textContent = text(each.dataset.text);
  for (const each of document.querySelectorAll("[data-label]")) each.setAttribute("aria-label", text(each.dataset.label));
  $("language").lang = language === "en" ? "ko" : "en";
  $("theme").textContent = text(theme === "dark" ? "theme_light" : "theme_dark");
}

// ---- colours: Okabe and Ito's, and a dash and a symbol for each -------------------------------------------
// On white the orange is darker than theirs and the purple too, so that all stand out by 3 to 1 or more.

const STYLES = {
  sgd: ["ink", "solid", "circle"], momentum: ["orange", "solid", "square"], nesterov: ["orange", "dash", "diamond"],
  adagrad: ["green", "solid", "triangle-up"], rmsprop: ["purple", "dash", "triangle-down"],
  adadelta: ["purple", "dot", "pentagon"], adam: ["blue", "solid", "star"], adam_uncorrected: ["blue", "dash", "x"],
  nadam: ["blue", "dot", "hexagon"], lbfgs: ["red", "dashdot", "cross"],
  "batch": ["ink", "solid", "circle"], "mini-batch": ["orange", "solid", "square"],
  "stochastic": ["blue", "solid", "diamond"],
  "low": ["blue", "solid", "circle"], "right": ["green", "dash", "square"], "high": ["orange", "dashdot", "diamond"],
  "too high": ["red", "dot", "triangle-up"],
};
const COLOURS = {
  light: { ink: "#000000", orange: "#c07c00", green: "#009e73", purple: "#b8568f", red: "#d55e00", blue: "#0072b2",
    text: "#1b1f24", grid: "#dfe3e8", page: "#ffffff", panel: "#f5f6f8",
    scale: [[0, "#ffffff"], [0.5, "#d9e3ee"], [1, "#a3b6cb"]] },
  dark: { ink: "#ffffff", orange: "#e69f00", green: "#2fc79a", purple: "#e09cc3", red: "#ff8a3d", blue: "#56b4e9",
    text: "#e8ebef", grid: "#333d49", page: "#12161c", panel: "#1b212a",
    scale: [[0, "#161b22"], [0.5, "#2a3644"], [1, "#516579"]] },
};
const DASHES = { solid: "", dash: "8 4", dot: "2 4", dashdot: "8 3 2 3" };
const SOLID_SYMBOLS = { "triangle-up": "diamond", "triangle-down": "diamond-open", star: "cross", pentagon: "circle-open",
  hexagon: "square-open" }; // in three dimensions there are fewer

const colours = () => COLOURS[theme];
const colour = (name) => colours()[STYLES[name][0]];
const line = (name, width = 2.5) => ({ color: colour(name), dash: STYLES[name][1], width });
const marker = (names, size = 11) => ({
  color: names.map(colour), symbol: names.map((name) => STYLES[name][2]), size,
  line: { color: colours().page, width: 1.5 },
});

/** The corners of a symbol: in turn at each of the radii. */
const corners = (n, radii = [6], from = -90) => Array.from({ length: n }, (_, i) => {
  const angle = ((from + (360 * i) / n) * Math.PI) / 180;
  return [Math.cos(angle), Math.sin(angle)].map((side) => (side * radii[i % radii.length]).toFixed(1)).join();
}).join(" ");
const PLUS = "-2,-6 2,-6 2,-2 6,-2 6,2 2,2 2,6 -2,6 -2,2 -6,2 -6,-2 -2,-2";
const SYMBOLS = { circle: corners(24, [5.5]), square: corners(4, [7], 45), diamond: corners(4, [7]), "triangle-up": corners(3, [7]),
  "triangle-down": corners(3, [7], 90), pentagon: corners(5), hexagon: corners(6), star: corners(10, [7.5, 3.3]), cross: PLUS, x: PLUS,
  "x-thin": "-5,-5 5,5 0,0 -5,5 5,-5 0,0" };
const symbol = (name, look) => `<polygon points="${SYMBOLS[name]}" transform="translate(17.5 8)${name === "x" ? " rotate(45)" : ""}" ${look}/>`;
const drawing = (inner) => `<svg class="swatch" viewBox="0 0 35 16" aria-hidden="true">${inner}</svg>`;

/** A method's line, with its symbol unless it has none in the plot. */
function swatch(name, marked = true) {
  const [, dash, shape] = STYLES[name];
  return drawing(`<line x1="1" y1="8" x2="34" y2="8" stroke="${colour(name)}" stroke-width="3.5" stroke-dasharray="${DASHES[dash]}"/>
    ${marked ? symbol(shape, `fill="${colour(name)}" stroke="${colours().page}" stroke-width="1"`) : ""}`);
}

/** The names with their lines, and what the other marks mean: [its symbol, its name]. */
function drawLegend(id, names, title, { marked = true, others = [] } = {}) {
  const entries = names.map((name) => [swatch(name, marked), title(name)]).concat(others.map(([shape, name]) =>
    [drawing(symbol(shape, `fill="${colours().page}" stroke="${colours().text}" stroke-width="1.5"`)), name]));
  $(`${id}-legend`).innerHTML = entries.map(([look, name]) => `<span>${look}${name}</span>`).join("");
}

// ---- plots -----------------------------------------------------------------------------------------------

const CONFIG = { displayModeBar: false, showTips: false, doubleClick: false, scrollZoom: false };
const axis = (title, more = {}) => ({
  title: { text: title, standoff: 6 }, gridcolor: colours().grid, zerolinecolor: colours().grid, automargin: true,
  fixedrange: true, exponentformat: "power", ...more,
});

/** From a little before the first step, whose number would else meet the lowest one of the other axis. */
const stepAxis = (steps) => axis(text("axis_step"), { range: [-0.02 * steps, steps] });

function layout(xaxis, yaxis, more = {}) {
  const clear = "rgba(0,0,0,0)";
  return {
    paper_bgcolor: clear, plot_bgcolor: clear, margin: { l: 52, r: 18, t: 10, b: 44 }, dragmode: false,
    font: { color: colours().text, size: 13, family: getComputedStyle(document.body).fontFamily },
    ...(xaxis && { xaxis, yaxis }), showlegend: false, hovermode: "closest",
    ...more,
  };
}

function ground(x, y, z, more = {}) {
  return { type: "contour", x, y, z, colorscale: colours().scale, showscale: false, ncontours: 24,
    line: { width: 0.6, color: theme === "dark" ? "#6b7f94" : "#8fa3b8" }, hovertemplate: "%{x:.2f}, %{y:.2f}<extra></extra>",
    ...more };
}

const trail = (name, more = {}) => ({ type: "scatter", mode: "lines", line: line(name), hoverinfo: "skip",
  x: [null], y: [null], ...more });
const balls = (names, more = {}) => ({ type: "scatter", mode: "markers", marker: marker(names), hoverinfo: "skip",
  x: [], y: [], cliponaxis: false, ...more });
const marks = (points, name, symbol) => ({ type: "scatter", mode: "markers", name, x: points.map((p) => p[0]),
  y: points.map((p) => p[1]), hovertemplate: `${name}<extra></extra>`,
  marker: { symbol, size: 13, color: colours().page, line: { color: colours().text, width: 2 } } });

/** A plot is as large as its box, which grows and shrinks with the texts around it. */
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const { width, height } = target._fullLayout ?? {}; // of what is drawn in it, if anything is
    if (width && (Math.abs(width - target.clientWidth) > 1 || Math.abs(height - target.clientHeight) > 1)) Plotly.Plots.resize(target);
  }
});

/** New points for some traces of a plot. */
function move(plot, traces, data) {
  Plotly.restyle(plot, { x: data.map(({ x }) => x), y: data.map(({ y }) => y) }, traces);
}

// ---- players ---------------------------------------------------------------------------------------------

const players = [];
const SPEEDS = [5, 15, 40];

/** Play, a slider over the steps, and a speed; show(t) draws a step. */
class Player {
  constructor(box, steps, show, key = "step") {
    Object.assign(this, { box, steps, show, key, t: 0, timer: null, speed: SPEEDS[1] });
    box.innerHTML = `<button type="button" class="play"></button>
      <input type="range" min="0" max="${steps}" value="0" data-label="slider"><output></output>
      <select data-label="speed">${SPEEDS.map((n) => `<option value="${n}"></option>`).join("")}</select>`;
    [this.button, this.slider, this.output, this.select] = box.children;
    this.select.value = this.speed;
    this.button.addEventListener("click", () => this.toggle());
    this.slider.addEventListener("input", () => { this.stop(); this.go(Number(this.slider.value)); });
    this.select.addEventListener("change", () => { this.speed = Number(this.select.value); });
    box.closest("section").addEventListener("pointerdown", () => { Player.last = this; });
    box.closest("section").addEventListener("focusin", () => { Player.last = this; });
    players.push(this);
  }

  get playing() { return this.timer !== null; }

  go(t) {
    this.t = Math.max(0, Math.min(this.steps, t));
    this.label();
    this.show(this.t);
  }

  label() {
    this.slider.value = this.t;
    this.output.textContent = text(this.key, { t: this.t, n: this.steps });
    this.slider.setAttribute("aria-valuetext", this.output.textContent);
    this.button.textContent = text(this.playing ? "pause" : "play");
    [...this.select.options].forEach((option, i) => { option.textContent = text("speed_value", { n: SPEEDS[i] }); });
  }

  toggle() {
    if (this.playing) return this.stop();
    players.forEach((other) => other.stop());
    if (this.t === this.steps) this.go(0);
    let [from, since] = [this.t, performance.now()];
    const tick = (now) => {
      const jump = still.matches ? Math.ceil(this.steps / 6) : 1;
      const pace = still.matches ? jump / 1.2 : this.speed;
      const due = from + Math.floor(((now - since) * pace) / 1000 / jump) * jump;
      if (due > this.t) this.go(due);
      if (this.t < this.steps) this.timer = requestAnimationFrame(tick);
      else this.stop();
    };
    this.select.onchange = () => { [from, since] = [this.t, performance.now()]; };
    this.timer = requestAnimationFrame(tick);
    this.label();
  }

  stop() {
    if (!this.playing) return;
    cancelAnimationFrame(this.timer);
    this.timer = null;
    this.label();
    this.show(this.t);
  }
}

/** Space plays, arrows step, unless a control makes use of the key itself. */
function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { target } = event;
  const player = Player.last ?? players[0];
  const own = target.closest("select, input[type=number], input[type=checkbox], button, a");
  if (event.key === " " && !own) player.toggle();
  else if (event.key in ARROWS && !target.closest("select, input, .scroll, #contour")) {
    const side = ARROWS[event.key][0];
    if (!side) return;
    player.stop();
    player.go(player.t + side);
  } else return;
  event.preventDefault();
}
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

// ---- packed numbers --------------------------------------------------------------------------------------

/** Int16Array of rows of a length, from base64 of deflated differences, low bytes before high ones. */
async function unpack(packed, length) {
  const deflated = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const codes = new Int16Array(bytes.length / 2);
  for (let i = 0, sum = 0; i < codes.length; i++) {
    const difference = bytes[i] | (bytes[codes.length + i] << 8);
    sum = i % length === 0 ? difference : sum + difference;
    codes[i] = sum; // modulo 2 ** 16
  }
  return codes;
}

const restore = (code, low, high, levels) =>
  code === DATA.missing ? null : low + ((code + levels / 2) / levels) * (high - low);

// ---- the race --------------------------------------------------------------------------------------------

const race = {
  land: null, // the landscape, with its runs unpacked
  start: 0,
  chosen: new Map(Object.keys(DATA.methods).map((name) => [name, ["sgd", "momentum", "rmsprop", "adam"].includes(name)])),
  rate: new Map(Object.keys(DATA.methods).map((name) => [name, ["momentum", "nesterov"].includes(name) ? 2 : 1])),
  cache: new Map(),
  near: true, // the paths are shown close up
  frame: null, // what is shown of the landscape: {low, high, x, y, z, bottom, top}
  solid: hasWebGL(),
  drawn: 0, // when the surface was
};

function hasWebGL() {
  try {
    return Boolean(document.createElement("canvas").getContext("webgl"));
  } catch {
    return false;
  }
}

async function opened(land) {
  if (!race.cache.has(land.name)) {
    const [codes, runs] = await Promise.all([unpack(land.heights, DATA.grid), unpack(land.runs, DATA.steps + 1)]);
    const ticks = (i) => Array.from({ length: DATA.grid }, (_, k) => land.low[i] + (k / (DATA.grid - 1)) * (land.high[i] - land.low[i]));
    const z = Array.from({ length: DATA.grid }, (_, row) =>
      Array.from(codes.subarray(row * DATA.grid, (row + 1) * DATA.grid), (code) => restore(code, ...land.span, DATA.positions)));
    race.cache.set(land.name, { ...land, runs, x: ticks(0), y: ticks(1), z });
  }
  return race.cache.get(land.name);
}

/** A run's x, y, loss and length of the next step, at each step. */
function runOf(method) {
  const { land } = race;
  const { first, rates } = land.methods[method];
  const rate = Math.min(race.rate.get(method), rates.length - 1);
  const row = first + race.start * rates.length + rate;
  const channel = (c, low, high, levels) =>
    Array.from(land.runs.subarray((row * 4 + c) * (DATA.steps + 1), (row * 4 + c + 1) * (DATA.steps + 1)),
      (code) => restore(code, low, high, levels));
  const place = (i) => {
    const margin = DATA.margin * (land.high[i] - land.low[i]);
    return channel(i, land.low[i] - margin, land.high[i] + margin, DATA.positions);
  };
  const power = (value) => (value === null ? null : 10 ** value);
  const [x, y] = [place(0), place(1)];
  const loss = land.floor === null ? channel(2, ...land.losses, DATA.levels) : channel(2, ...land.losses, DATA.levels).map(power);
  const length = channel(3, ...DATA.lengths, DATA.levels).map(power);
  return { method, rate: rates[rate], x, y, loss, length };
}

const within = ({ low, high }, ...point) => point.every((value, i) => value !== null && value >= low[i] && value <= high[i]);

const CLOSEST = 0.12; // of the box's side: no closer than that
const ROOM = 1.3; // around the paths

/** The part of the landscape that is shown, in whole cells of its grid: all, or what the runs and the minimum next to the
    end of the last one take. */
function frameOf(land, runs) {
  const spots = runs.flatMap((run) => run.x.map((x, t) => [x, run.y[t]])).filter((spot) => within(land, ...spot));
  const end = spots.at(-1) ?? land.starts[race.start];
  const far = land.minima.map((minimum) => Math.hypot(minimum[0] - end[0], minimum[1] - end[1]));
  spots.push(land.starts[race.start], land.minima[far.indexOf(Math.min(...far))] ?? end);
  const last = DATA.grid - 1;
  const shares = [0, 1].map((i) => {
    const along = spots.map((spot) => (spot[i] - land.low[i]) / (land.high[i] - land.low[i]));
    return [Math.min(...along), Math.max(...along)];
  });
  const largest = Math.max(...shares.map(([from, to]) => to - from));
  const [columns, rows] = shares.map(([from, to]) => {
    if (!race.near) return [0, last];
    const side = Math.min(1, ROOM * Math.max(to - from, largest / 2, CLOSEST));
    const begin = Math.max(0, Math.min(1 - side, (from + to - side) / 2));
    return [Math.floor(begin * last), Math.ceil(Math.min(1, begin + side) * last)];
  });
  const [x, y] = [land.x.slice(columns[0], columns[1] + 1), land.y.slice(rows[0], rows[1] + 1)];
  const z = land.z.slice(rows[0], rows[1] + 1).map((row) => row.slice(columns[0], columns[1] + 1));
  const heights = z.flat();
  return { x, y, z, low: [x[0], y[0]], high: [x.at(-1), y.at(-1)], bottom: Math.min(...heights), top: Math.max(...heights) };
}

function heightOf(loss) {
  const { steep, floor } = race.land;
  return steep ? Math.log10(1 + loss) : loss + (floor ?? 0);
}

const runners = () => [...race.chosen].filter(([, on]) => on).map(([method]) => method);

/** The nearest computed start, in units of the box. */
function nearest(x, y) {
  const { land } = race;
  const far = land.starts.map(([a, b]) =>
    Math.hypot((a - x) / (land.high[0] - land.low[0]), (b - y) / (land.high[1] - land.low[1])));
  return far.indexOf(Math.min(...far));
}

/** The next start in a direction: near, and more along it than across. */
function neighbour([right, up]) {
  const { land } = race;
  const [x, y] = land.starts[race.start];
  const costs = land.starts.map(([a, b]) => {
    const [dx, dy] = [(a - x) / (land.high[0] - land.low[0]), (b - y) / (land.high[1] - land.low[1])];
    const [along, across] = right ? [dx * right, Math.abs(dy)] : [dy * up, Math.abs(dx)];
    return along > 1e-3 && along >= across ? along + 2 * across : Infinity;
  });
  const least = Math.min(...costs);
  return Number.isFinite(least) ? costs.indexOf(least) : race.start;
}

function startAt(index) {
  race.start = index;
  racePlayer.stop();
  racePlayer.t = 0;
  drawRace();
}

async function chooseLandscape(name) {
  race.land = await opened(DATA.races.find((land) => land.name === name));
  ["x", "y"].forEach((letter, i) => {
    const input = $(`start-${letter}`);
    const width = race.land.high[i] - race.land.low[i];
    Object.assign(input, { min: race.land.low[i], max: race.land.high[i], step: Number((width / 60).toPrecision(1)) });
  });
  startAt(0);
  fillInputs();
}

function fillInputs() {
  ["x", "y"].forEach((letter, i) => { $(`start-${letter}`).value = Number(race.land.starts[race.start][i].toPrecision(3)); });
}

function drawControls() {
  $("landscape").replaceChildren(...DATA.races.map((land) => new Option(pick(land.title), land.name)));
  $("landscape").value = race.land.name;
  $("methods").replaceChildren(...Object.keys(DATA.methods).map(methodRow));
  const [x, y] = race.land.starts[race.start];
  $("taken").textContent = text("taken", { x: number(x), y: number(y), n: race.land.starts.length });
  $("stored").textContent = text("stored", { starts: race.land.starts.length, side: DATA.side, steps: DATA.steps });
}

function methodRow(method) {
  const row = document.createElement("div");
  row.className = "method";
  row.innerHTML = `<label><input type="checkbox" id="use-${method}">${swatch(method)}<span></span></label><select></select>`;
  const [box, select] = [row.querySelector("input"), row.querySelector("select")];
  const { rates } = race.land.methods[method];
  row.querySelector("span").textContent = titleOf(method);
  box.checked = race.chosen.get(method);
  box.addEventListener("change", () => { race.chosen.set(method, box.checked); drawRacePlots(); });
  select.setAttribute("aria-label", text("rate_of", { method: titleOf(method) }));
  select.disabled = rates.length === 1;
  select.append(...rates.map((rate, i) =>
    new Option(rates.length === 1 ? text("rate_own") : `${text(`rate_${i}`)} ${number(rate, 2)}`, i)));
  select.value = Math.min(race.rate.get(method), rates.length - 1);
  select.addEventListener("change", () => { race.rate.set(method, Number(select.value)); drawRacePlots(); });
  return row;
}

function drawRace() {
  drawControls();
  drawRacePlots();
}

function drawRacePlots() {
  race.runs = runners().map(runOf);
  race.frame = frameOf(race.land, race.runs);
  for (const run of race.runs) {
    run.height = run.loss.map((value, t) => (within(race.frame, run.x[t], run.y[t]) && value !== null ? heightOf(value) : null));
  }
  drawContour();
  drawCurves();
  if (race.solid) drawSurface();
  else $("surface").innerHTML = `<p class="notice">${text("no_webgl")}</p>`;
  showRace(racePlayer.t);
  racePlayer.label();
}

const cut = (values, t) => values.slice(0, t + 1);
const at = (runs, key, t) => runs.map((run) => run[key][t]);

function drawContour() {
  const { land, runs, frame } = race;
  const shown = (points) => points.filter((point) => within(frame, ...point));
  const starts = shown(land.starts);
  const dots = { type: "scatter", mode: "markers", hoverinfo: "skip", x: starts.map((p) => p[0]),
    y: starts.map((p) => p[1]), marker: { size: 5, color: colours().text, opacity: 0.55 } };
  const goals = [[shown(land.minima), text("minimum"), "star"], [shown(land.saddles), text("saddle_mark"), "x-thin"]];
  const traces = [ground(frame.x, frame.y, frame.z), dots, ...goals.map((goal) => marks(...goal)),
    ...runs.map((run) => trail(run.method)), balls(runs.map((run) => run.method), { cliponaxis: true })];
  const range = (i) => ({ range: [frame.low[i], frame.high[i]], zeroline: false });
  drawLegend("race", runs.map((run) => run.method), titleOf,
    { others: goals.filter(([points]) => points.length).map(([, name, shape]) => [shape, name]) });
  Plotly.react("contour", traces, layout(axis("x", range(0)), axis("y", range(1)), { meta: land.name }), CONFIG);
}

function drawSurface() {
  const { land, runs, frame } = race;
  const { bottom, top } = frame;
  const flat = { showscale: false, colorscale: colours().scale, hoverinfo: "skip", lighting: { ambient: 0.85, diffuse: 0.3, specular: 0 },
    contours: { z: { show: true, start: bottom, end: top, size: (top - bottom) / 16, width: 1,
      color: theme === "dark" ? "#6b7f94" : "#8fa3b8", highlight: false }, x: { highlight: false }, y: { highlight: false } } };
  const solid = (run) => ({ type: "scatter3d", mode: "lines", hoverinfo: "skip", x: [], y: [], z: [], line: { ...line(run.method, 6) } });
  const tops = { type: "scatter3d", mode: "markers", hoverinfo: "skip", x: [], y: [], z: [],
    marker: { ...marker(runs.map((run) => run.method), 6),
      symbol: runs.map((run) => SOLID_SYMBOLS[STYLES[run.method][2]] ?? STYLES[run.method][2]) } };
  const wall = (title, more = {}) => ({ title: { text: title }, gridcolor: colours().grid, showspikes: false, exponentformat: "power", nticks: 5,
    ...more });
  $("height").textContent = text("height", { what: text(land.steep ? "axis_log" : "axis_loss") });
  const scene = { xaxis: wall("x", { range: [frame.low[0], frame.high[0]] }), yaxis: wall("y", { range: [frame.low[1], frame.high[1]] }),
    zaxis: wall("", { range: [bottom - (top - bottom) / 4, top] }), aspectmode: "manual", aspectratio: { x: 1, y: 1, z: 0.7 },
    camera: { eye: { x: -1.2, y: -1.3, z: 1.7 }, center: { x: 0, y: 0, z: -0.15 } }, dragmode: "turntable" };
  Plotly.react("surface", [{ type: "surface", x: frame.x, y: frame.y, z: frame.z, ...flat }, ...runs.map(solid), tops],
    layout(null, null, { margin: { l: 0, r: 0, t: 0, b: 0 }, uirevision: `${land.name} ${race.near}`, scene }), CONFIG);
  race.drawn = 0;
}

function drawCurves() {
  const steps = Array.from({ length: DATA.steps + 1 }, (_, t) => t);
  const hover = (run) => `${titleOf(run.method)}: %{y:.3~g}<extra></extra>`;
  const lines = (key) => race.runs.map((run) => ({ type: "scatter", mode: "lines", x: steps, y: run[key], line: line(run.method, 2),
    name: titleOf(run.method), hovertemplate: hover(run) }));
  const cursor = { shapes: [{ type: "line", x0: 0, x1: 0, y0: 0, y1: 1, yref: "paper", line: { color: colours().text, width: 1 } }] };
  const x = stepAxis(DATA.steps);
  const logs = (key) => ({ type: "log", ...ticks(key) });
  const loss = race.land.floor === null ? axis(text("axis_loss")) : axis(text("axis_gap"), logs("loss"));
  Plotly.react("loss", lines("loss"), layout(x, loss, { ...cursor, hovermode: "x unified" }), CONFIG);
  Plotly.react("length", lines("length"), layout(x, axis(text("axis_length"), logs("length")),
    { ...cursor, hovermode: "x unified" }), CONFIG);
}

/** A tick for each decade, for every other one where there are many, or within decades where there are few. */
function ticks(key) {
  const logs = race.runs.flatMap((run) => run[key]).filter((value) => value > 0).map(Math.log10);
  const decades = Math.max(...logs) - Math.min(...logs);
  return decades < 2 ? {} : { dtick: decades > 6 ? 2 : 1 };
}

function showRace(t) {
  const { runs } = race;
  const from = 4; // after the ground, the starts, the minima and the saddles
  move($("contour"), runs.map((_, i) => from + i).concat(from + runs.length),
    [...runs.map((run) => ({ x: cut(run.x, t), y: cut(run.y, t) })), { x: at(runs, "x", t), y: at(runs, "y", t) }]);
  for (const id of ["loss", "length"]) Plotly.relayout(id, { "shapes[0].x0": t, "shapes[0].x1": t });
  showSurface(t);
  $("now").textContent = text("now", { t });
  const order = [...runs].sort((a, b) => (a.loss[t] ?? Infinity) - (b.loss[t] ?? Infinity));
  $("standings").innerHTML = order.map((run) => `<tr><td><div class="named">${swatch(run.method)}<span>${titleOf(run.method)}</span></div></td>
    <td>${race.land.methods[run.method].rates.length === 1 ? "–" : number(run.rate)}</td>
    <td>${run.loss[t] === null || run.x[t] === null ? text("outside") : number(run.loss[t] + (race.land.floor ?? 0))}</td>
    <td>${number(run.length[t])}</td></tr>`).join("");
}

/** The surface takes longest: while it plays, four times a second. */
function showSurface(t) {
  if (!race.solid || (racePlayer.playing && performance.now() - race.drawn < 250)) return;
  const { runs } = race;
  const { bottom, top } = race.frame;
  const lift = 0.012 * (top - bottom); // to be seen, above the surface
  const keep = (values, heights) => values.map((value, i) => (heights[i] === null ? null : values === heights ? value + lift : value));
  const part = (key) => runs.map((run) => cut(keep(run[key], run.height), t)).concat([runs.map((run) => keep(run[key], run.height)[t])]);
  Plotly.restyle("surface", { x: part("x"), y: part("y"), z: part("height") }, runs.map((_, i) => i + 1).concat(runs.length + 1));
  race.drawn = performance.now();
}

function listenToRace() {
  $("landscape").addEventListener("change", (event) => chooseLandscape(event.target.value));
  $("view").addEventListener("change", (event) => { race.near = event.target.value === "near"; drawRacePlots(); });
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  for (const letter of ["x", "y"]) {
    $(`start-${letter}`).addEventListener("change", () => startAt(nearest(Number($("start-x").value), Number($("start-y").value))));
  }
  $("contour").on("plotly_click", ({ points: [point] }) => {
    startAt(nearest(point.x, point.y));
    fillInputs();
  });
  $("contour").addEventListener("keydown", (event) => {
    if (!(event.key in ARROWS)) return;
    event.preventDefault();
    startAt(neighbour(ARROWS[event.key]));
    fillInputs();
  });
}

const racePlayer = new Player($("race-player"), DATA.steps, showRace);

// ---- the scenes ------------------------------------------------------------------------------------------

/** Paths over a ground, played; `at(name, t)` is the step of a path at the player's t, `extra()` gives other marks. */
function pathScene(id, { paths, ground: { x, y, z }, axes, name, extra = () => [], note, key = "step", plays, at: when = (_, t) => t }) {
  const names = Object.keys(paths);
  const show = (t) => {
    const now = names.map((each) => paths[each].map((values) => cut(values, when(each, t))));
    move($(`${id}-plot`), names.map((_, i) => i + 1).concat(names.length + 1),
      [...now.map(([a, b]) => ({ x: a, y: b })), { x: now.map(([a]) => a.at(-1)), y: now.map(([, b]) => b.at(-1)) }]);
  };
  const steps = plays ?? paths[names[0]][0].length - 1;
  const player = new Player($(`${id}-player`), steps, show, key);
  player.t = steps;
  const range = (values) => ({ range: [values[0], values.at(-1)], zeroline: false });
  return () => {
    const [xTitle, yTitle] = axes();
    const traces = [ground(x, y, z), ...names.map((each) => trail(each)), balls(names, { cliponaxis: true }),
      ...extra().map(([shape, label, points]) => marks(points, label, shape))];
    drawLegend(id, names, name, { others: extra() });
    if (note) $(`${id}-note`).textContent = note(steps);
    Plotly.react(`${id}-plot`, traces, layout(axis(xTitle, range(x)), axis(yTitle, range(y))), CONFIG);
    player.label();
    show(player.t);
  };
}

const listed = (entries) => entries.map(([name, value]) => `${titleOf(name)} ${value}`).join(", ");

function zigzagScene() {
  const { zigzag } = DATA.scenes;
  return pathScene("zigzag", { ...zigzag, axes: () => ["x₁", "x₂"], name: titleOf,
    note: (n) => text("zigzag_note", { n, counts: listed(Object.entries(zigzag.crossings)) }) });
}

function saddleScene() {
  const { saddle } = DATA.scenes;
  const far = ([name, [, y]]) => [name, number(Math.max(...y.map(Math.abs)), 2)];
  return pathScene("saddle", { ...saddle, axes: () => ["x", "y"], name: titleOf,
    note: (n) => text("saddle_note", { n, distances: listed(Object.entries(saddle.paths).map(far)) }) });
}

function batchScene() {
  const { batches } = DATA.scenes;
  const epochs = batches.paths.batch[0].length - 1;
  const a_step = (name) => (batches.paths[name][0].length - 1) / epochs;
  return pathScene("batches", { ...batches, axes: () => [text("axis_w"), text("axis_b")], name: (each) => text(`batch_${each}`),
    plays: epochs, key: "epoch", at: (name, t) => t * a_step(name), extra: () => [["star", text("least_squares"), [batches.best]]] });
}

function rateScene() {
  const { runs, losses, rates, curve } = DATA.scenes.rates;
  const names = Object.keys(runs);
  const steps = runs[names[0]].length - 1;
  const times = Array.from({ length: steps + 1 }, (_, t) => t);
  const show = (t) => {
    move($("rates-plot"), [1], [{ x: names.map((name) => runs[name][t]), y: names.map((name) => losses[name][t]) }]);
    move($("rates-lines"), names.map((_, i) => i), names.map((name) => ({ x: cut(times, t), y: cut(runs[name], t) })));
  };
  const player = new Player($("rates-player"), steps, show);
  player.t = 12;
  const named = (name) => `${text(`rate_${name}`)} (${rates[name]})`;
  return () => {
    const parabola = { type: "scatter", mode: "lines", x: curve.x, y: curve.y, line: { color: colours().text, width: 1.5 }, hoverinfo: "skip" };
    Plotly.react("rates-plot", [parabola, balls(names, { marker: marker(names, 14) })],
      layout(axis("x", { range: [-1.6, 1.6] }), axis("x²", { range: [-0.15, 2.6] })), CONFIG);
    drawLegend("rates", names, named);
    Plotly.react("rates-lines", names.map((name) => trail(name)),
      layout(stepAxis(steps), axis("x", { range: [-1.6, 1.6] })), CONFIG);
    player.label();
    show(player.t);
  };
}

function minimaScene() {
  const { starts, runs, losses, curve } = DATA.scenes.minima;
  const names = Object.keys(runs);
  const steps = runs.sgd[0].length - 1;
  const slider = $("minima-start");
  const lift = { sgd: 0.18, momentum: -0.18 }; // apart, to be seen
  const points = (name, t) => cut(runs[name][Number(slider.value)], t);
  const heights = (name, t) => cut(losses[name][Number(slider.value)], t).map((value) => value + lift[name]);
  const show = (t) => {
    const now = names.map((name) => ({ x: points(name, t), y: heights(name, t) }));
    move($("minima-plot"), [1, 2, 3], [...now, { x: now.map(({ x }) => x.at(-1)), y: now.map(({ y }) => y.at(-1)) }]);
  };
  const player = new Player($("minima-player"), steps, show);
  player.t = steps;
  slider.max = starts.length - 1;
  slider.value = starts.length - 1;
  const note = () => {
    const start = number(starts[Number(slider.value)], 2);
    const [sgd, momentum] = names.map((name) => number(points(name, steps).at(-1), 2));
    $("minima-note").textContent = text("minima_note", { start, sgd, momentum });
    $("minima-value").textContent = `x = ${start}`;
    slider.setAttribute("aria-valuetext", `x = ${start}`);
  };
  slider.addEventListener("input", () => { note(); show(player.t); });
  return () => {
    const ground = { type: "scatter", mode: "lines", x: curve.x, y: curve.y, hoverinfo: "skip",
      line: { color: colours().text, width: 1.5 } };
    const trails = names.map((name) => trail(name, { mode: "lines+markers", line: line(name, 1.2), marker: { ...marker([name], 6), symbol: STYLES[name][2],
      color: colour(name), line: { width: 0 } } }));
    Plotly.react("minima-plot", [ground, ...trails, balls(names, { marker: marker(names, 15) })],
      layout(axis("x", { range: [-1.05, 2.55] }), axis(text("axis_loss"))), CONFIG);
    drawLegend("minima", names, titleOf);
    note();
    player.label();
    show(player.t);
  };
}

function drawBias() {
  const { adam, adam_uncorrected: off } = DATA.scenes.bias;
  const lines = [["adam", adam, "bias_on"], ["adam_uncorrected", off, "bias_off"]].map(([name, y, key]) =>
    ({ type: "scatter", mode: "lines", x: y.map((_, t) => t + 1), y, line: line(name), name: text(key), hovertemplate: "%{y:.3~g}" }));
  Plotly.react("bias-plot", lines, layout(axis(text("axis_step")), axis(text("axis_length"), { rangemode: "tozero" }),
    { hovermode: "x unified" }), CONFIG);
  drawLegend("bias", ["adam", "adam_uncorrected"], (name) => text(name === "adam" ? "bias_on" : "bias_off"), { marked: false });
  const ratios = off.map((length, t) => length / adam[t]);
  $("bias-text").textContent = text("bias_text", { ratio: number(ratios[0]), most: number(Math.max(...ratios), 2) });
}

function drawConditions() {
  const { condition, ...counts } = DATA.scenes.conditions;
  const lines = Object.entries(counts).map(([name, y]) => ({ type: "scatter", mode: "lines+markers", x: condition, y, name: titleOf(name),
    line: line(name), marker: { symbol: STYLES[name][2], size: 8 }, hovertemplate: "%{y}" }));
  Plotly.react("conditions-plot", lines, layout(axis(text("axis_condition"), { type: "log", dtick: 1 }),
    axis(text("axis_needed"), { type: "log", dtick: 1 }), { hovermode: "x unified" }), CONFIG);
  drawLegend("conditions", Object.keys(counts), titleOf);
  const [sgd, momentum] = [counts.sgd.at(-1), counts.momentum.at(-1)];
  $("conditions-text").textContent = text("conditions_text", { condition: number(condition.at(-1)), sgd, momentum });
}

// ---- the family tree -------------------------------------------------------------------------------------

const FAMILIES = { descent: ["ink", "solid"], adaptive: ["blue", "solid"], sign: ["blue", "double"], "rate-free": ["green", "double"],
  layers: ["purple", "double"], matrix: ["orange", "solid"], conjugate: ["green", "solid"], "quasi-newton": ["red", "solid"],
  newton: ["ink", "double"], squares: ["orange", "double"], composite: ["red", "double"], constrained: ["purple", "solid"],
  "derivative-free": ["blue", "dashed"] };
let selected = "adam";

const nodeOf = (name) => DATA.tree.nodes.find((node) => node.name === name);
const buttonOf = (name) => $("nodes").querySelector(`[data-name="${name}"]`);
const ancestors = (name) => nodeOf(name).parents.flatMap((parent) => [parent, ...ancestors(parent)]);
const hued = (family) => `--hue:${colours()[FAMILIES[family][0]]};border-left-style:${FAMILIES[family][1]}`;

function drawTree() {
  const { nodes, edges, routes, extent: [wide, high] } = DATA.tree;
  const road = (curves) => `M${curves.map(([from, ...rest]) => `${from}C${rest}`).join("L")}`;
  $("nodes").style.cssText = `width:${wide}rem;height:${high}rem`;
  $("nodes").innerHTML = `<svg viewBox="0 0 ${wide} ${high}" aria-hidden="true">${edges.map(([parent, child], i) =>
    `<path data-ends="${parent} ${child}" d="${road(routes[i])}"/>`).join("")}</svg>`;
  $("nodes").append(...nodes.map(nodeButton));
  const families = Object.keys(DATA.tree.families).map((name) => [`style="${hued(name)}"`, "", pick(DATA.tree.families[name])]);
  const marked = [["", "chosen", text("tree_chosen")], ["", "on", text("tree_ancestor")]];
  $("tree-legend").innerHTML = [...families, ...marked].map(([style, name, title]) =>
    `<span><i class="family ${name}" ${style}></i>${title}</span>`).join("");
  markChosen();
}

function nodeButton(node) {
  const button = document.createElement("button");
  const [x, y] = node.place;
  button.type = "button";
  button.dataset.name = node.name;
  button.style.cssText = `left:${x - DATA.tree.width / 2}rem;top:${y - node.height / 2}rem;width:${DATA.tree.width}rem;height:${node.height}rem;
    ${hued(node.family)}`;
  button.append(pick(node.label), Object.assign(document.createElement("small"), { textContent: node.year }));
  button.addEventListener("click", () => choose(node.name));
  return button;
}

function choose(name) {
  selected = name;
  markChosen();
  buttonOf(name).focus({ preventScroll: true });
  buttonOf(name).scrollIntoView({ block: "nearest", inline: "nearest" });
}

/** The chosen box, its ancestors' and the lines between them; of all boxes the tab key reaches the chosen one. */
function markChosen() {
  const family = new Set([selected, ...ancestors(selected)]);
  for (const button of $("nodes").querySelectorAll("button")) {
    button.classList.toggle("on", family.has(button.dataset.name));
    button.setAttribute("aria-pressed", button.dataset.name === selected);
    button.tabIndex = button.dataset.name === selected ? 0 : -1;
  }
  for (const path of $("nodes").querySelectorAll("path")) {
    const on = path.dataset.ends.split(" ").every((end) => family.has(end));
    path.classList.toggle("on", on);
    if (on) path.parentNode.append(path); // above the others
  }
  drawDetail();
}

/** The next box in a direction: up and down in the column, left to the parents and right to the children if there are any. */
function beside(name, [right, up]) {
  const [x, y] = nodeOf(name).place;
  const costs = DATA.tree.nodes.map((node) => {
    const [dx, dy] = [node.place[0] - x, y - node.place[1]];
    const [along, across] = right ? [dx * right, Math.abs(dy)] : [dy * up, Math.abs(dx)];
    const kin = right > 0 ? node.parents.includes(name) : right < 0 && nodeOf(name).parents.includes(node.name);
    return [along > 0.1 && (right || across < 0.1) ? along + 2 * across - (kin ? 1e4 : 0) : Infinity, node.name];
  });
  const [cost, next] = costs.reduce((a, b) => (b[0] < a[0] ? b : a));
  return cost < Infinity ? next : name;
}

function drawDetail() {
  const node = nodeOf(selected);
  const parents = node.parents.map((name) => pick(nodeOf(name).title)).join(", ") || text("tree_root");
  const rows = [["sentence", pick(node.sentence)], ["equation", node.equation, "code"], ["call", node.call, "code"],
    ["strengths", pick(node.strengths)], ["not_for", pick(node.not_for)], ["family", pick(DATA.tree.families[node.family])],
    ["parents", parents], ["year", node.year], ["paper", node.paper, "cite"]];
  const list = document.createElement("dl");
  list.append(...rows.map(([key, value, tag = "span"]) => {
    const [pair, term, detail, inner] = ["div", "dt", "dd", tag].map((name) => document.createElement(name));
    term.textContent = pick(DATA.tree.titles[key]);
    inner.textContent = value;
    detail.append(inner);
    pair.append(term, detail);
    return pair;
  }));
  $("detail").replaceChildren(Object.assign(document.createElement("h3"), { textContent: pick(node.title) }), list);
  $("detail").scrollTop = 0;
  $("nodes").style.setProperty("--below", `${$("detail").offsetHeight + 16}px`);
}

// ---- what is wider than its place ------------------------------------------------------------------------

/** Fades a scroller at the sides where it has more, and shows the arrows there. */
function hint(scroller) {
  const beyond = scroller.scrollWidth - scroller.clientWidth;
  const more = { "-1": scroller.scrollLeft > 1, 1: scroller.scrollLeft < beyond - 1 };
  scroller.classList.toggle("more-left", more[-1]);
  scroller.classList.toggle("more-right", more[1]);
  if (scroller.id !== "tree-scroll") return;
  $("tree-hint").hidden = beyond < 2;
  for (const button of document.querySelectorAll(".more")) button.hidden = !more[button.dataset.side];
}

function listenToTree() {
  const shown = new ResizeObserver((entries) => entries.forEach(({ target }) => hint(target)));
  for (const scroller of document.querySelectorAll(".scroll")) {
    scroller.addEventListener("scroll", () => hint(scroller), { passive: true });
    shown.observe(scroller);
  }
  const scroller = $("tree-scroll");
  scroller.scrollLeft = buttonOf(selected).offsetLeft - (scroller.clientWidth - buttonOf(selected).offsetWidth) / 2;
  for (const button of document.querySelectorAll(".more")) {
    button.addEventListener("click", () => scroller.scrollBy({ left: Number(button.dataset.side) * 0.8 * scroller.clientWidth,
      behavior: still.matches ? "auto" : "smooth" }));
  }
  $("nodes").addEventListener("keydown", (event) => {
    if (!(event.key in ARROWS)) return;
    event.preventDefault();
    choose(beside(event.target.dataset.name ?? selected, ARROWS[event.key]));
  });
}

// ---- all together ----------------------------------------------------------------------------------------

const scenes = [zigzagScene(), rateScene(), minimaScene(), saddleScene(), batchScene(), drawBias, drawConditions, drawTree];

function draw() {
  document.documentElement.dataset.theme = theme;
  $("reduced").hidden = !still.matches;
  translate();
  drawRace();
  for (const scene of scenes) scene();
  for (const scroller of document.querySelectorAll(".scroll")) hint(scroller);
}

async function begin() {
  document.documentElement.dataset.theme = theme;
  translate();
  await chooseLandscape(DATA.races[0].name);
  draw();
  listenToRace();
  listenToTree();
  for (const plot of document.querySelectorAll(".plot")) sizes.observe(plot);
  $("language").addEventListener("click", () => { language = language === "en" ? "ko" : "en"; draw(); });
  $("theme").addEventListener("click", () => { theme = theme === "dark" ? "light" : "dark"; draw(); });
  dark.addEventListener("change", () => { theme = dark.matches ? "dark" : "light"; draw(); });
  still.addEventListener("change", draw);
  document.addEventListener("keydown", keys);
  document.body.dataset.ready = "yes";
}

begin();
