// Curves and dots on linear or logarithmic axes, with levels that are named beside the picture.
const SYMBOLS = ["circle", "diamond", "square", "triangle-up", "cross", "star"];
const DASHES = ["solid", "dot", "dashdot", "longdash"];
const MANY_POINTS = 60;

// Marks of a logarithmic axis: 1, 2 and 5 of each decade; below two decades round numbers, evenly apart.
function logMarks(least, most) {
  const marks = [];
  if (most / least > 30) {
    const last = Math.ceil(power(most));
    for (let decade = Math.floor(power(least)); decade <= last; decade += 1) {
      marks.push(...[1, 2, 5].map((digit) => digit * 10 ** decade));
    }
    return marks;
  }
  const rough = (most - least || most) / 5, base = 10 ** Math.floor(power(rough));
  const apart = base * [1, 2, 5, 10].find((digit) => digit * base >= rough);
  const last = Math.ceil(most / apart);
  for (let place = Math.max(Math.floor(least / apart), 1); place <= last; place += 1) marks.push(place * apart);
  return marks;
}

function logAxis(values) {
  const tickvals = logMarks(Math.min(...values), Math.max(...values));
  const ticktext = tickvals.map((value) => value.toLocaleString("en", {maximumSignificantDigits: 4}));
  return {type: "log", tickvals, ticktext};
}

function markEach(values) {
  const tickvals = [...new Set(values)].sort((a, b) => a - b);
  const ticktext = tickvals.map((value) => value.toLocaleString("en"));
  return {tickvals, ticktext, tickangle: tickvals.length > 8 ? -35 : 0};
}

function lineText(picture, line, point) {
  const round = (value) => Number(value.toPrecision(4)).toLocaleString("en", {maximumSignificantDigits: 4});
  const [x, y] = [line.xs[point], line.ys[point]].map(round);
  return line.texts[point] || `${line.name}\n${picture.x_title}: ${x}\n${picture.y_title}: ${y}`;
}

// Each colour has its own marker, so that curves are told apart without it.
function markerOf(picture, line) {
  if (line.style === "rings") return {symbol: "circle-open", size: 17, color: colour("--ink"), line: {width: 1.6}};
  const dots = line.style === "dots";
  const hues = [...new Set(picture.lines.filter((one) => one.style !== "rings").map((one) => one.colour))];
  return {
    symbol: SYMBOLS[hues.indexOf(line.colour) % SYMBOLS.length], color: lineColour(line.colour), size: dots ? 9 : 7,
    line: {color: colour("--ink"), width: dots ? 0.6 : 0},
  };
}

function lineTrace(picture, line, place, small) {
  const rings = line.style === "rings", dotted = !small && picture.lines[0].xs.length <= MANY_POINTS;
  const modes = {line: dotted ? "lines+markers" : "lines", dashes: "lines+markers", dots: "markers", rings: "markers"};
  const dash = line.style === "dashes" ? "dash" : small ? DASHES[place % DASHES.length] : "solid";
  return {
    x: line.xs, y: line.ys, name: plain(line.name), mode: modes[line.style], marker: markerOf(picture, line),
    line: {color: lineColour(line.colour), width: 1.6, dash},
    customdata: line.xs.map((_, point) => plain(lineText(picture, line, point))),
    hoverinfo: rings ? "skip" : "all", hovertemplate: rings ? null : HOVER,
  };
}

function levelsOf(picture) {
  const shapes = picture.marks.map((mark) => ({
    type: "line", xref: "paper", x0: 0, x1: 1, y0: mark.value, y1: mark.value,
    line: {color: lineColour(mark.colour), width: 1.5, dash: "dash"},
  }));
  if (picture.band) {
    const [y0, y1] = picture.band;
    const fill = {fillcolor: "#0072b2", opacity: 0.15, line: {width: 0}};
    shapes.push(Object.assign({type: "rect", xref: "paper", x0: 0, x1: 1, y0, y1}, fill));
  }
  return shapes;
}

// Names of levels stand beside the picture, where no curve runs, in short lines with the number on the last.
function levelNames(picture) {
  const highest = Math.max(...picture.marks.map((mark) => mark.value)), several = picture.marks.length > 1;
  const short = (label) => label.replace(/(.{8,15}) (?!\S+$)/g, "$1\n").replace(/ (?=[\d.,]+ \S+$)/, "\n");
  return picture.marks.map((mark) => ({
    xref: "paper", x: 1, y: mark.value, xanchor: "left", xshift: 6, showarrow: false, align: "left",
    yanchor: !several ? "middle" : mark.value === highest ? "bottom" : "top",
    text: plain(short(mark.label)), font: {color: colour("--ink")},
  }));
}

function drawLines(node, picture) {
  const small = picture.name === "telemetry", marks = picture.marks.length;
  const [xs, ys] = ["xs", "ys"].map((axis) => picture.lines.flatMap((line) => line[axis]));
  const xTitle = {text: picture.x_title, standoff: 4}, yTitle = {text: picture.y_title, standoff: 4};
  const traces = picture.lines.map((line, place) => lineTrace(picture, line, place, small));
  Plotly.react(node, traces, layout(node, {
    shapes: levelsOf(picture), annotations: levelNames(picture),
    margin: small ? {l: 46, r: 10, t: 6, b: 34} : {l: 60, r: marks ? 108 : 16, t: marks > 1 ? 30 : 12, b: 46},
    font: {family: getComputedStyle(document.body).fontFamily, size: small ? 10 : 12, color: colour("--ink")},
    showlegend: picture.legend, legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0},
    xaxis: Object.assign(
      {title: xTitle, tickformat: picture.whole_x ? "d" : ""},
      picture.log_x ? logAxis(xs) : {}, picture.mark_xs ? markEach(xs) : {},
    ),
    yaxis: Object.assign(
      {title: yTitle, nticks: small ? 4 : 8, rangemode: picture.from_zero ? "tozero" : "normal"},
      picture.log_y ? logAxis(ys) : {},
    ),
  }), still);
  const read = (line, curve) => line.xs.map((_, point) => (
    {curve, point, text: lineText(picture, line, point).replace(/\n/g, ", ")}
  ));
  walk(node, picture.lines.flatMap((line, curve) => (line.style === "rings" ? [] : read(line, curve))));
}
