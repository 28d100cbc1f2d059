// What happens when the page opens, when its theme changes and when it is printed.
function draw() {
  for (const node of document.querySelectorAll("[data-chart]")) {
    const chart = data.charts[node.dataset.chart];
    if (node.dataset.chart === "roofline") drawRoofline(node, chart);
    else if (chart.bars.length) drawBars(node, chart);
    else drawLines(node, chart);
  }
  document.getElementById("theme").setAttribute("aria-pressed", String(dark()));
}

wireTables();
draw();
document.getElementById("theme").addEventListener("click", () => {
  root.dataset.theme = dark() ? "light" : "dark";
  draw();
});
systemDark.addEventListener("change", draw);
// Paper is light and has a width of its own, whatever the screen is.
let before;
addEventListener("beforeprint", () => {
  before = root.dataset.theme;
  root.dataset.theme = "light";
  root.classList.add("paper");
  draw();
});
addEventListener("afterprint", () => {
  root.classList.remove("paper");
  if (before) root.dataset.theme = before; else delete root.dataset.theme;
  draw();
});
