"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const root = document.documentElement;
  const config = {displaylogo: false, responsive: true, displayModeBar: "hover", modeBarButtonsToRemove: ["select2d", "lasso2d"]};
  const hidden = {kind: new Set(), direction: new Set()};

  // Plotly reads a little HTML in its texts: names from outside are shown as they are.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  // The deep blue of the palette is too dark for a thin line on a dark page.
  const lineColour = (value) => (dark() && value === "#0072b2" ? "#4aa8e0" : value);
  const power = (value) => Math.log10(value);

  function layout(extra) {
    const axis = {gridcolor: colour("--grid"), linecolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true};
    const base = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
      font: {family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--ink")},
      modebar: {bgcolor: "rgba(0,0,0,0)", color: colour("--quiet"), activecolor: colour("--ink")},
      hoverlabel: {bgcolor: colour("--panel"), bordercolor: colour("--line"), font: {color: colour("--ink")}, align: "left"},
      margin: {l: 56, r: 20, t: 12, b: 44},
    };
    const merged = Object.assign(base, extra);
    merged.xaxis = Object.assign({}, axis, extra.xaxis);
    merged.yaxis = Object.assign({}, axis, extra.yaxis);
    return merged;
  }

  function roofTraces(figure) {
    return figure.roofs.map((roof) => ({
      x: roof.xs, y: roof.ys, mode: "lines", name: plain(roof.label), legendgroup: "roof " + roof.name,
      line: {color: colour("--ink"), width: roof.main ? 2.5 : 1.4, dash: roof.slanted ? "solid" : "dash"},
      hovertemplate: plain(roof.label) + "<extra></extra>", showlegend: true,
    }));
  }

  function ridgeTrace(figure) {
    return {
      x: figure.ridges.map((ridge) => ridge.x), y: figure.ridges.map((ridge) => ridge.y), mode: "markers", showlegend: false,
      marker: {symbol: "x", size: 11, color: colour("--ink")},
      text: figure.ridges.map((ridge) => plain(ridge.label)), hovertemplate: "%{text}<extra></extra>",
    };
  }

  function pointTraces(figure) {
    const groups = new Map();
    for (const point of figure.points) {
      const key = point.kind + " " + point.direction;
      groups.set(key, [...(groups.get(key) || []), point]);
    }
    return [...groups.values()].map((points) => ({
      x: points.map((p) => p.x), y: points.map((p) => p.y), mode: "markers", showlegend: false,
      meta: {kind: points[0].kind, direction: points[0].direction},
      marker: {
        symbol: data.markers[points[0].direction], color: points[0].colour, size: points.map((p) => p.diameter_px),
        opacity: 0.85, line: {color: colour("--ink"), width: 1},
      },
      text: points.map((p) => p.hover.map(plain).join("<br>")), hovertemplate: "%{text}<extra></extra>",
    }));
  }

  function legendTraces(figure) {
    const kinds = new Map(figure.points.map((p) => [p.kind, p.colour]));
    const directions = new Set(figure.points.map((p) => p.direction));
    const entry = (meta, name, marker) => ({x: [null], y: [null], mode: "markers", name, meta, marker, showlegend: true});
    const line = {color: colour("--ink"), width: 1};
    return [
      ...[...kinds].map(([kind, fill]) => entry({switch: "kind", value: kind}, kind, {symbol: "circle", size: 10, color: fill, line})),
      ...[...directions].map((direction) => entry({switch: "direction", value: direction}, direction,
        {symbol: data.markers[direction], size: 10, color: "rgba(0,0,0,0)", line: {color: colour("--ink"), width: 1.5}})),
    ];
  }

  function drawRoofline(node, figure) {
    const note = (x, y, text, extra) => Object.assign({
      x: power(x), y: power(y), text: plain(text), showarrow: false, font: {size: 11, color: colour("--ink")}, bgcolor: colour("--back"), borderpad: 1,
    }, extra);
    const annotations = [
      ...figure.roofs.map((roof) => note(roof.label_x, roof.label_y, roof.label,
        roof.slanted ? {xanchor: "right", xshift: -8, yshift: 6} : {xanchor: "right", yshift: 11})),
      ...figure.ridges.map((ridge) => note(ridge.x, ridge.y, ridge.label, {showarrow: true, arrowhead: 0, arrowcolor: colour("--quiet"), ax: 0, ay: -24})),
    ];
    const traces = [...roofTraces(figure), ridgeTrace(figure), ...pointTraces(figure), ...legendTraces(figure)];
    Plotly.react(node, traces, layout({
      showlegend: true, legend: {orientation: "h", y: -0.12, yanchor: "top"}, annotations, margin: {l: 60, r: 20, t: 10, b: 50},
      xaxis: {type: "log", dtick: 1, range: figure.x_range.map(power), title: {text: "arithmetic intensity [FLOP/B]"}},
      yaxis: {type: "log", dtick: 1, range: figure.y_range.map(power), exponentformat: "SI", title: {text: "compute rate [FLOP/s]"}},
    }), config);
    if (!node.dataset.wired) {
      node.dataset.wired = "yes";
      node.on("plotly_legendclick", (event) => toggle(node, event.data[event.curveNumber]));
      node.on("plotly_legenddoubleclick", () => false);
    }
    show(node);
  }

  function toggle(node, trace) {
    const meta = trace.meta || {};
    if (!meta.switch) return true;
    const set = hidden[meta.switch];
    if (!set.delete(meta.value)) set.add(meta.value);
    show(node);
    return false;
  }

  function show(node) {
    const visible = node.data.map((trace) => {
      const meta = trace.meta || {};
      if (meta.switch) return hidden[meta.switch].has(meta.value) ? "legendonly" : true;
      if (meta.kind) return !hidden.kind.has(meta.kind) && !hidden.direction.has(meta.direction);
      return trace.visible === undefined ? true : trace.visible;
    });
    Plotly.restyle(node, {visible});
  }

  function drawBars(node, picture) {
    const labels = picture.bars.map((bar) => plain(bar.label));
    const trace = {
      type: "bar", orientation: "h", y: labels, base: picture.bars.map((bar) => bar.start), x: picture.bars.map((bar) => bar.length),
      marker: {color: picture.bars.map((bar) => bar.colour), line: {color: colour("--ink"), width: 0.6}},
      text: picture.bars.map((bar) => plain(bar.text)), textposition: "outside", cliponaxis: false,
      hovertemplate: "%{y}: %{text}<extra></extra>",
    };
    const marks = picture.marks.map((mark) => ({type: "line", x0: mark.value, x1: mark.value, yref: "paper", y0: 0, y1: 1, line: {color: mark.colour, width: 2, dash: "dash"}}));
    const annotations = picture.marks.map((mark) => ({x: mark.value, yref: "paper", y: 1, yanchor: "bottom", xanchor: "right", showarrow: false, text: plain(mark.label), font: {color: colour("--ink")}}));
    Plotly.react(node, [trace], layout({
      shapes: marks, annotations, margin: {l: 60, r: 118, t: 22, b: 44},
      xaxis: {title: {text: picture.x_title}, rangemode: "tozero"}, yaxis: {autorange: "reversed"},
    }), config);
  }

  // A logarithmic axis with 1, 2 and 5 of each decade marked.
  function logOf(log, values) {
    if (!log) return {};
    const first = Math.floor(power(Math.min(...values))), last = Math.ceil(power(Math.max(...values)));
    const marks = [];
    for (let decade = first; decade <= last; decade += 1) marks.push(...[1, 2, 5].map((digit) => digit * 10 ** decade));
    return {type: "log", tickvals: marks, ticktext: marks.map((value) => value.toLocaleString("en"))};
  }

  function ticksOf(picture) {
    const values = [...new Set(picture.lines.flatMap((line) => line.xs))].sort((a, b) => a - b);
    return {tickvals: values, ticktext: values.map((value) => value.toLocaleString("en")), tickangle: values.length > 8 ? -35 : 0};
  }

  function drawLines(node, picture) {
    const small = picture.name === "telemetry";
    const dots = !small && picture.lines[0].xs.length <= 60;
    const modes = {line: dots ? "lines+markers" : "lines", dashes: "lines+markers", dots: "markers", rings: "markers"};
    const marker = (line) => line.style === "rings"
      ? {symbol: "circle-open", size: 17, color: colour("--ink"), line: {width: 1.6}}
      : {color: lineColour(line.colour), size: line.style === "dots" ? 9 : 6, line: {color: colour("--ink"), width: line.style === "dots" ? 0.6 : 0}};
    const traces = picture.lines.map((line) => ({
      x: line.xs, y: line.ys, name: plain(line.name), mode: modes[line.style], marker: marker(line),
      line: {color: lineColour(line.colour), width: 1.6, dash: line.style === "dashes" ? "dash" : "solid"},
      text: line.texts.map(plain), hoverinfo: line.style === "rings" ? "skip" : "all",
      hovertemplate: line.style === "rings" ? null : line.texts.length ? "%{text}<extra></extra>" : plain(line.name) + "<br>" + plain(picture.x_title) + ": %{x:.4~g}<br>%{y:.4~g} " + plain(small ? picture.y_title : "") + "<extra></extra>",
    }));
    const shapes = picture.marks.map((mark) => ({type: "line", xref: "paper", x0: 0, x1: 1, y0: mark.value, y1: mark.value, line: {color: lineColour(mark.colour), width: 1.5, dash: "dash"}}));
    if (picture.band) shapes.push({type: "rect", xref: "paper", x0: 0, x1: 1, y0: picture.band[0], y1: picture.band[1], fillcolor: "#0072b2", opacity: 0.15, line: {width: 0}});
    const annotations = picture.marks.map((mark) => ({xref: "paper", x: 1, y: mark.value, xanchor: "right", yanchor: "bottom", showarrow: false, text: plain(mark.label), font: {color: colour("--ink")}, bgcolor: colour("--back")}));
    Plotly.react(node, traces, layout({
      shapes, annotations, margin: small ? {l: 46, r: 10, t: 6, b: 34} : {l: 60, r: 16, t: 12, b: 46},
      font: {family: getComputedStyle(document.body).fontFamily, size: small ? 10 : 12, color: colour("--ink")},
      showlegend: picture.legend, legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0},
      xaxis: Object.assign({title: {text: picture.x_title, standoff: 4}, tickformat: picture.whole_x ? "d" : ""}, logOf(picture.log_x, picture.lines.flatMap((line) => line.xs)), picture.mark_xs ? ticksOf(picture) : {}), yaxis: Object.assign({title: {text: picture.y_title, standoff: 4}, nticks: small ? 4 : 8}, logOf(picture.log_y, picture.lines.flatMap((line) => line.ys))),
    }), small ? Object.assign({}, config, {displayModeBar: false}) : config);
  }

  function draw() {
    for (const node of document.querySelectorAll("[data-chart]")) {
      const chart = data.charts[node.dataset.chart];
      if (node.dataset.chart === "roofline") drawRoofline(node, chart);
      else if (chart.bars.length) drawBars(node, chart);
      else drawLines(node, chart);
    }
  }

  function sortBy(table, column, header) {
    const falling = header.getAttribute("aria-sort") !== "descending" && header.classList.contains("number")
      || header.getAttribute("aria-sort") === "ascending";
    const value = (row) => {
      const cell = row.cells[column];
      return header.classList.contains("number") && cell.dataset.value !== undefined ? Number(cell.dataset.value) : cell.textContent;
    };
    const numeric = header.classList.contains("number");
    const rows = [...table.tBodies[0].rows].sort((one, two) => {
      const [a, b] = [value(one), value(two)];
      if (numeric && typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
      const order = typeof a === "number" ? a - b : a.localeCompare(b, undefined, {numeric: true});
      return falling ? -order : order;
    });
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", falling ? "descending" : "ascending");
    table.tBodies[0].append(...rows);
  }

  function wireTables() {
    for (const table of document.querySelectorAll("table[data-table]")) {
      [...table.tHead.rows[0].cells].forEach((header, column) =>
        header.querySelector("button").addEventListener("click", () => sortBy(table, column, header)));
    }
    for (const input of document.querySelectorAll("input[data-filter]")) {
      const name = input.dataset.filter;
      const rows = [...document.querySelector(`table[data-table="${name}"]`).tBodies[0].rows];
      const counter = document.querySelector(`[data-count="${name}"]`);
      input.addEventListener("input", () => {
        const wanted = input.value.toLowerCase();
        for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
        counter.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
      });
    }
  }

  function dark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  wireTables();
  draw();
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    draw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  let before = "";
  addEventListener("beforeprint", () => { before = dark() ? "dark" : "light"; root.dataset.theme = "light"; draw(); });
  addEventListener("afterprint", () => { root.dataset.theme = before; draw(); });
})();
