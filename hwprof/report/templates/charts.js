// What all charts share: the page's colours, their layout, and how the keyboard walks through their points.
const data = JSON.parse(document.getElementById("report-data").textContent);
const root = document.documentElement;
const config = {displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]]};
const still = {displaylogo: false, responsive: true, displayModeBar: false};
const HOVER = "%{customdata}<extra></extra>";

// Plotly reads a little HTML in its texts: names from outside are shown as they are.
const SIGNS = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": "<br>"};
const plain = (text) => String(text).replace(/[&<>\n]/g, (sign) => SIGNS[sign]);
const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);
// The deep blue of the palette is too dark for a thin line on a dark page.
const lineColour = (value) => (dark() && value === "#0072b2" ? "#4aa8e0" : value);
const power = (value) => Math.log10(value);

// On paper a chart is as wide as its column; on a screen it follows the window.
const widthOf = (node) => (root.classList.contains("paper") ? node.clientWidth : undefined);

function layout(node, extra) {
  const [ink, quiet, line, panel] = ["--ink", "--quiet", "--line", "--panel"].map(colour);
  const axis = {gridcolor: colour("--grid"), linecolor: line, zerolinecolor: line, automargin: true};
  const base = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    showlegend: false, hovermode: "closest", dragmode: "zoom", autosize: true, width: widthOf(node),
    font: {family: getComputedStyle(document.body).fontFamily, size: 12, color: ink},
    modebar: {bgcolor: "rgba(0,0,0,0)", color: quiet, activecolor: ink},
    hoverlabel: {bgcolor: panel, bordercolor: line, font: {color: ink}, align: "left"},
    margin: {l: 56, r: 20, t: 12, b: 44},
  };
  const axes = {xaxis: Object.assign({}, axis, extra.xaxis), yaxis: Object.assign({}, axis, extra.yaxis)};
  return Object.assign(base, extra, axes);
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
