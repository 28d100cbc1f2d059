// Roofs, ridge and operations, and the buttons that hide a layer kind or a direction.
const hidden = {kind: new Set(), direction: new Set()};
const SHAPES = {circle: "●", square: "■", diamond: "◆", "triangle-up": "▲", "triangle-down": "▼"};
const ROOM_FOR_LETTER = 15;

function roofTraces(figure) {
  return figure.roofs.map((roof) => ({
    x: roof.xs, y: roof.ys, mode: "lines", name: plain(roof.label), showlegend: false,
    line: {color: colour("--ink"), width: roof.main ? 2.5 : 1.4, dash: roof.slanted ? "solid" : "dash"},
    hovertemplate: plain(roof.label) + "<extra></extra>",
  }));
}

function ridgeTrace(figure) {
  return {
    x: figure.ridges.map((ridge) => ridge.x), y: figure.ridges.map((ridge) => ridge.y), mode: "markers",
    marker: {symbol: "x", size: 11, color: colour("--ink")},
    text: figure.ridges.map((ridge) => plain(ridge.label)), hovertemplate: "%{text}<extra></extra>",
  };
}

function groupsOf(figure) {
  const groups = new Map();
  for (const point of figure.points) {
    const key = point.kind + " " + point.direction;
    groups.set(key, [...(groups.get(key) || []), point]);
  }
  return [...groups.values()];
}

function pointTrace(points) {
  const {kind, direction} = points[0], ink = colour("--ink");
  const roomy = points.map((p) => p.diameter_px >= ROOM_FOR_LETTER);
  return {
    x: points.map((p) => p.x), y: points.map((p) => p.y), mode: "markers+text", meta: {kind, direction},
    marker: {
      symbol: data.markers[direction], color: points[0].colour, size: points.map((p) => p.diameter_px),
      opacity: 0.85, line: {color: ink, width: 1},
    },
    text: points.map((p) => p.letter), textposition: roomy.map((has) => (has ? "middle center" : "middle right")),
    textfont: {size: 10, color: points.map((p, place) => (roomy[place] ? p.ink : ink))},
    customdata: points.map((p) => p.hover.map(plain).join("<br>")), hovertemplate: HOVER,
  };
}

function namesOf(figure) {
  const name = (x, y, text, extra) => Object.assign({
    x: power(x), y: power(y), text: plain(text), showarrow: false,
    font: {size: 11, color: colour("--ink")}, bgcolor: colour("--back"), borderpad: 1,
  }, extra);
  const besides = (roof) => (roof.slanted ? {xanchor: "right", xshift: -8, yshift: 6} : {xanchor: "right", yshift: 11});
  const above = {showarrow: true, arrowhead: 0, arrowcolor: colour("--quiet"), ax: 0, ay: -24};
  return [
    ...figure.roofs.map((roof) => name(roof.label_x, roof.label_y, roof.label, besides(roof))),
    ...figure.ridges.map((ridge) => name(ridge.x, ridge.y, ridge.label, above)),
  ];
}

function drawRoofline(node, figure) {
  const groups = groupsOf(figure);
  const lines = [...roofTraces(figure), ridgeTrace(figure)];
  const axis = (range, text) => ({type: "log", dtick: 1, range: range.map(power), title: {text}});
  Plotly.react(node, [...lines, ...groups.map(pointTrace)], layout(node, {
    annotations: namesOf(figure), margin: {l: 60, r: 20, t: 10, b: 50},
    xaxis: axis(figure.x_range, "arithmetic intensity [FLOP/B]"),
    yaxis: Object.assign(axis(figure.y_range, "compute rate [FLOP/s]"), {exponentformat: "SI"}),
  }), config);
  const stops = groups.flatMap((points, place) => points.map((p, point) => (
    {curve: lines.length + place, point, time_s: p.time_s, text: p.hover.join(", ")}
  )));
  walk(node, stops.sort((one, two) => two.time_s - one.time_s));
  addToggles(node, figure);
  show(node);
}

function addToggles(node, figure) {
  if (node.toggles) return;
  node.toggles = document.createElement("div");
  node.toggles.className = "toggles";
  node.toggles.setAttribute("role", "group");
  node.toggles.setAttribute("aria-label", "What the roofline shows");
  const kinds = new Map(figure.points.map((p) => [p.kind, p]));
  for (const [kind, point] of kinds) addToggle(node, "kind", kind, point.letter, point);
  for (const direction of new Set(figure.points.map((p) => p.direction))) {
    addToggle(node, "direction", direction, SHAPES[data.markers[direction]]);
  }
  node.before(node.toggles);
}

function addToggle(node, group, value, sign, point) {
  const button = document.createElement("button"), swatch = document.createElement("span");
  button.type = "button";
  button.setAttribute("aria-pressed", "true");
  swatch.className = "sign";
  swatch.setAttribute("aria-hidden", "true");
  swatch.textContent = sign;
  if (point) Object.assign(swatch.style, {background: point.colour, color: point.ink});
  button.append(swatch, value);
  button.addEventListener("click", () => {
    const set = hidden[group];
    if (!set.delete(value)) set.add(value);
    button.setAttribute("aria-pressed", String(!set.has(value)));
    show(node);
  });
  node.toggles.append(button);
}

function show(node) {
  const shown = (meta) => !hidden.kind.has(meta.kind) && !hidden.direction.has(meta.direction);
  const visible = node.data.map(({meta}) => !meta || shown(meta));
  Plotly.restyle(node, {visible});
}
