// Bars and lines in the page's colours, and how the keyboard walks through what a picture shows.
const data = JSON.parse(document.getElementById("report-data").textContent);
const root = document.documentElement;
const SYMBOLS = ["circle", "diamond", "square", "triangle-up", "cross", "star"];
const DASHES = ["solid", "dot", "dashdot", "longdash"];
const MANY_POINTS = 60;

// Plotly reads a little HTML in its texts: names from outside are shown as they are.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/\n/g, "<br>");
const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
// The deep blue of the palette is too dark for a thin line on a dark page.
const lineColour = (value) => (dark() && value === "#0072b2" ? "#4aa8e0" : value);
const power = (value) => Math.log10(value);
const config = {displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]]};
const still = {displaylogo: false, responsive: true, displayModeBar: false};

// On paper a chart is as wide as its column; on a screen it follows the window.
const widthOf = (node) => (root.classList.contains("paper") ? node.clientWidth : undefined);

function layout(node, extra) {
  const axis = {gridcolor: colour("--grid"), linecolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true};
  const base = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest", dragmode: "zoom",
    font: {family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--ink")},
    modebar: {bgcolor: "rgba(0,0,0,0)", color: colour("--quiet"), activecolor: colour("--ink")},
    hoverlabel: {bgcolor: colour("--panel"), bordercolor: colour("--line"), font: {color: colour("--ink")}, align: "left"},
    margin: {l: 56, r: 20, t: 12, b: 44}, autosize: true, width: widthOf(node),
  };
  return Object.assign(base, extra, {xaxis: Object.assign({}, axis, extra.xaxis), yaxis: Object.assign({}, axis, extra.yaxis)});
}

// Arrow keys go from point to point of a picture: the point shows what it would on pointing at it, and it is read out.
function walk(node, stops) {
  node.stops = stops;
  if (node.readout) return;
  node.readout = document.createElement("p");
  node.readout.className = "readout";
  node.readout.setAttribute("aria-live", "polite");
  node.after(node.readout);
  let place = -1;
  const leave = () => { place = -1; node.readout.textContent = ""; Plotly.Fx.unhover(node); };
  node.addEventListener("blur", leave);
  node.addEventListener("keydown", (event) => {
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    if (event.key === "Escape") leave();
    if (!step || event.target !== node) return;
    event.preventDefault();
    const shown = node.stops.filter((stop) => node.data[stop.curve].visible !== false);
    if (!shown.length) return;
    place = (place < 0 && step < 0 ? shown.length - 1 : (place + step + shown.length) % shown.length);
    const stop = shown[place];
    node.readout.textContent = `${place + 1} of ${shown.length}: ${stop.text}`;
    Plotly.Fx.hover(node, [{curveNumber: stop.curve, pointNumber: stop.point}]);
  });
}

function drawBars(node, picture) {
  const {bars} = picture;
  const said = (bar) => bar.detail || `${bar.label}: ${bar.text}`;
  const trace = {
    type: "bar", orientation: "h", y: bars.map((bar) => plain(bar.label)), base: bars.map((bar) => bar.start), x: bars.map((bar) => bar.length),
    marker: {color: bars.map((bar) => bar.colour), line: {color: colour("--ink"), width: 0.6}},
    text: bars.map((bar) => plain(bar.text)), textposition: bars.map((bar) => (bar.inside ? "inside" : "outside")), cliponaxis: false,
    insidetextanchor: "start", textangle: 0, constraintext: "inside",
    insidetextfont: {color: bars.map((bar) => data.inks[bar.colour] || colour("--ink"))}, outsidetextfont: {color: colour("--ink")},
    customdata: bars.map((bar) => plain(said(bar))), hovertemplate: "%{customdata}<extra></extra>",
  };
  const whiskers = bars.filter((bar) => bar.interval);
  const whisker = {
    type: "scatter", mode: "markers", hoverinfo: "skip", x: whiskers.map((bar) => bar.start + bar.length), y: whiskers.map((bar) => plain(bar.label)),
    marker: {symbol: "line-ns-open", size: 12, color: colour("--ink"), line: {width: 2}},
    error_x: {
      symmetric: false, color: colour("--ink"), thickness: 1.6, width: 6,
      array: whiskers.map((bar) => bar.interval[1] - bar.start - bar.length), arrayminus: whiskers.map((bar) => bar.start + bar.length - bar.interval[0]),
    },
  };
  const marks = picture.marks.map((mark) => ({type: "line", x0: mark.value, x1: mark.value, yref: "paper", y0: 0, y1: 1, line: {color: mark.colour, width: 2, dash: "dash"}}));
  const annotations = picture.marks.map((mark) => ({x: mark.value, yref: "paper", y: 1, yanchor: "bottom", xanchor: "right", showarrow: false, text: plain(mark.label), font: {color: colour("--ink")}}));
  const outside = bars.some((bar) => !bar.inside);
  const loose = bars.some((bar) => bar.length < 0);
  const rows = new Set(bars.map((bar) => bar.label)), tall = bars.some((bar) => bar.label.includes("\n"));
  node.style.height = `${78 + rows.size * (tall ? 46 : 27)}px`;
  Plotly.react(node, whiskers.length ? [trace, whisker] : [trace], layout(node, {
    shapes: marks, annotations, barmode: "overlay", uniformtext: {mode: "hide", minsize: 12}, margin: {l: 60, r: outside && !loose ? 118 : 20, t: picture.marks.length ? 22 : 8, b: 44},
    xaxis: Object.assign({title: {text: picture.x_title}}, loose ? {range: roomy(bars), zeroline: true} : {rangemode: "tozero"}),
    yaxis: {autorange: "reversed", ticksuffix: " "},
  }), still);
  walk(node, bars.map((bar, point) => ({curve: 0, point, text: said(bar)})));
}

// Bars to both sides of zero, with room for the text at their ends.
function roomy(bars) {
  const ends = bars.map((bar) => bar.start + bar.length);
  const [low, high] = [Math.min(0, ...ends), Math.max(0, ...ends)], room = 0.28 * (high - low);
  return [low - room, high ? high + room : 0];
}

// A logarithmic axis with 1, 2 and 5 of each decade marked; below two decades with round numbers, evenly apart.
function logOf(log, values) {
  if (!log) return {};
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const marks = [];
  if (most / least > 30) {
    for (let decade = Math.floor(power(least)); decade <= Math.ceil(power(most)); decade += 1) marks.push(...[1, 2, 5].map((digit) => digit * 10 ** decade));
  } else {
    const rough = (most - least || most) / 5, base = 10 ** Math.floor(power(rough));
    const apart = base * [1, 2, 5, 10].find((digit) => digit * base >= rough);
    for (let place = Math.max(Math.floor(least / apart), 1); place <= Math.ceil(most / apart); place += 1) marks.push(place * apart);
  }
  return {type: "log", tickvals: marks, ticktext: marks.map((value) => value.toLocaleString("en", {maximumSignificantDigits: 4}))};
}

function ticksOf(picture) {
  const values = [...new Set(picture.lines.flatMap((line) => line.xs))].sort((a, b) => a - b);
  return {tickvals: values, ticktext: values.map((value) => value.toLocaleString("en")), tickangle: values.length > 8 ? -35 : 0};
}

// Each colour has its own marker, so that curves are told apart without it.
function lineTrace(picture, line, place, dotted) {
  const small = picture.name === "telemetry", rings = line.style === "rings";
  const hues = [...new Set(picture.lines.filter((one) => one.style !== "rings").map((one) => one.colour))];
  const modes = {line: dotted ? "lines+markers" : "lines", dashes: "lines+markers", dots: "markers", rings: "markers"};
  const dash = line.style === "dashes" ? "dash" : small ? DASHES[place % DASHES.length] : "solid";
  return {
    x: line.xs, y: line.ys, name: plain(line.name), mode: modes[line.style],
    marker: rings ? {symbol: "circle-open", size: 17, color: colour("--ink"), line: {width: 1.6}} : {
      symbol: SYMBOLS[hues.indexOf(line.colour) % SYMBOLS.length], color: lineColour(line.colour), size: line.style === "dots" ? 9 : 7,
      line: {color: colour("--ink"), width: line.style === "dots" ? 0.6 : 0},
    },
    line: {color: lineColour(line.colour), width: 1.6, dash},
    customdata: line.xs.map((_, point) => plain(lineText(picture, line, point))),
    hoverinfo: rings ? "skip" : "all", hovertemplate: rings ? null : "%{customdata}<extra></extra>",
  };
}

function lineText(picture, line, point) {
  const round = (value) => Number(value.toPrecision(4)).toLocaleString("en", {maximumSignificantDigits: 4});
  return line.texts[point] || `${line.name}\n${picture.x_title}: ${round(line.xs[point])}\n${picture.y_title}: ${round(line.ys[point])}`;
}

function drawLines(node, picture) {
  const small = picture.name === "telemetry";
  const dotted = !small && picture.lines[0].xs.length <= MANY_POINTS;
  const traces = picture.lines.map((line, place) => lineTrace(picture, line, place, dotted));
  const shapes = picture.marks.map((mark) => ({type: "line", xref: "paper", x0: 0, x1: 1, y0: mark.value, y1: mark.value, line: {color: lineColour(mark.colour), width: 1.5, dash: "dash"}}));
  if (picture.band) shapes.push({type: "rect", xref: "paper", x0: 0, x1: 1, y0: picture.band[0], y1: picture.band[1], fillcolor: "#0072b2", opacity: 0.15, line: {width: 0}});
  // Names of levels stand beside the picture, where no curve runs.
  const highest = Math.max(...picture.marks.map((mark) => mark.value)), several = picture.marks.length > 1;
  const annotations = picture.marks.map((mark) => ({
    xref: "paper", x: 1, y: mark.value, xanchor: "left", xshift: 6, yanchor: !several ? "middle" : mark.value === highest ? "bottom" : "top", showarrow: false, align: "left",
    text: plain(mark.label.replace(/(.{8,15}) (?!\S+$)/g, "$1\n").replace(/ (?=[\d.,]+ \S+$)/, "\n")), font: {color: colour("--ink")},
  }));
  const margin = small ? {l: 46, r: 10, t: 6, b: 34} : {l: 60, r: picture.marks.length ? 108 : 16, t: several ? 30 : 12, b: 46};
  const [xs, ys] = ["xs", "ys"].map((axis) => picture.lines.flatMap((line) => line[axis]));
  Plotly.react(node, traces, layout(node, {
    shapes, annotations, margin,
    font: {family: getComputedStyle(document.body).fontFamily, size: small ? 10 : 12, color: colour("--ink")},
    showlegend: picture.legend, legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0},
    xaxis: Object.assign({title: {text: picture.x_title, standoff: 4}, tickformat: picture.whole_x ? "d" : ""}, logOf(picture.log_x, xs), picture.mark_xs ? ticksOf(picture) : {}),
    yaxis: Object.assign({title: {text: picture.y_title, standoff: 4}, nticks: small ? 4 : 8, rangemode: picture.from_zero ? "tozero" : "normal"}, logOf(picture.log_y, ys)),
  }), still);
  walk(node, picture.lines.flatMap((line, curve) => (line.style === "rings" ? [] : line.xs.map((_, point) => ({curve, point, text: lineText(picture, line, point).replace(/\n/g, ", ")})))));
}
