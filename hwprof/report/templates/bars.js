// Bars: one row a label, with texts in them or behind their ends, whiskers and marked levels.
const ROW_PX = {oneLine: 27, twoLines: 46};

const saidOfBar = (bar) => bar.detail || `${bar.label}: ${bar.text}`;

function barTrace(bars) {
  const ink = colour("--ink");
  return {
    type: "bar", orientation: "h",
    y: bars.map((bar) => plain(bar.label)), base: bars.map((bar) => bar.start), x: bars.map((bar) => bar.length),
    marker: {color: bars.map((bar) => bar.colour), line: {color: ink, width: 0.6}},
    text: bars.map((bar) => plain(bar.text)), textposition: bars.map((bar) => (bar.inside ? "inside" : "outside")),
    textangle: 0, insidetextanchor: "start", constraintext: "inside", cliponaxis: false,
    insidetextfont: {color: bars.map((bar) => data.inks[bar.colour] || ink)}, outsidetextfont: {color: ink},
    customdata: bars.map((bar) => plain(saidOfBar(bar))), hovertemplate: HOVER,
  };
}

function whiskerTrace(bars) {
  const ink = colour("--ink"), ends = bars.map((bar) => bar.start + bar.length);
  return {
    type: "scatter", mode: "markers", hoverinfo: "skip", x: ends, y: bars.map((bar) => plain(bar.label)),
    marker: {symbol: "line-ns-open", size: 12, color: ink, line: {width: 2}},
    error_x: {
      symmetric: false, color: ink, thickness: 1.6, width: 6,
      array: bars.map((bar, place) => bar.interval[1] - ends[place]),
      arrayminus: bars.map((bar, place) => ends[place] - bar.interval[0]),
    },
  };
}

// Bars to both sides of zero, with room for the text at their ends.
function roomy(bars) {
  const ends = bars.map((bar) => bar.start + bar.length);
  const [low, high] = [Math.min(0, ...ends), Math.max(0, ...ends)], room = 0.28 * (high - low);
  return [low - room, high ? high + room : 0];
}

function drawBars(node, picture) {
  const {bars, marks} = picture;
  const whiskers = bars.filter((bar) => bar.interval);
  const outside = bars.some((bar) => !bar.inside), loose = bars.some((bar) => bar.length < 0);
  const row = bars.some((bar) => bar.label.includes("\n")) ? ROW_PX.twoLines : ROW_PX.oneLine;
  node.style.height = `${78 + row * new Set(bars.map((bar) => bar.label)).size}px`;
  Plotly.react(node, whiskers.length ? [barTrace(bars), whiskerTrace(whiskers)] : [barTrace(bars)], layout(node, {
    barmode: "overlay", uniformtext: {mode: "hide", minsize: 12},
    shapes: marks.map((mark) => ({
      type: "line", x0: mark.value, x1: mark.value, yref: "paper", y0: 0, y1: 1,
      line: {color: mark.colour, width: 2, dash: "dash"},
    })),
    annotations: marks.map((mark) => ({
      x: mark.value, yref: "paper", y: 1, yanchor: "bottom", xanchor: "right", showarrow: false,
      text: plain(mark.label), font: {color: colour("--ink")},
    })),
    margin: {l: 60, r: outside && !loose ? 118 : 20, t: marks.length ? 22 : 8, b: 44},
    xaxis: Object.assign({title: {text: picture.x_title}}, loose ? {range: roomy(bars)} : {rangemode: "tozero"}),
    yaxis: {autorange: "reversed", ticksuffix: " "},
  }), still);
  walk(node, bars.map((bar, point) => ({curve: 0, point, text: saidOfBar(bar)})));
}
