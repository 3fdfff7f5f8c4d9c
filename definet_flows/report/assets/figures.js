"use strict";
// Each figure is drawn when it comes near the window, and takes the page's colours.
(() => {
  const settings = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  const axis = () => ({ gridcolor: Theme.color("rule"), zerolinecolor: Theme.color("rule"), linecolor: Theme.color("muted"), automargin: true });
  const colors = () => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: Theme.color("text"), family: getComputedStyle(document.body).fontFamily, size: 13 },
    hoverlabel: { bgcolor: Theme.color("panel"), font: { color: Theme.color("text") } },
  });
  function layout(given) {
    const modebar = { ...given.modebar, color: Theme.color("muted"), activecolor: Theme.color("accent") };
    return { ...given, ...colors(), modebar, xaxis: { ...given.xaxis, ...axis() }, yaxis: { ...given.yaxis, ...axis() } };
  }
  function draw(box) {
    const { data, layout: given } = DATA.charts[box.dataset.chart];
    return Plotly.react(box, data, layout(given), settings).then(() => { box.dataset.drawn = "true"; });
  }
  const boxes = [...document.querySelectorAll("[data-chart]")];
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "300px" });
  boxes.forEach((box) => near.observe(box));
  document.addEventListener("theme", () => boxes.filter((box) => box.dataset.drawn).forEach(draw));
  window.addEventListener("beforeprint", () => boxes.filter((box) => !box.dataset.drawn).forEach(draw));
})();
