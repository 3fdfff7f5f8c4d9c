"use strict";
// One 3Dmol viewer for the worst configurations, made when the first is shown.
(() => {
  const box = document.getElementById("viewer");
  if (!box) return;
  const buttons = [...document.querySelectorAll("[data-overlay]")], layers = document.getElementById("layers");
  const REACH = 7, VISIBLE = 0.03, VACANCY = "2", PRISTINE = "0"; // Å about the defects' centre, Å
  let viewer = null, shown = null;
  const point = ([x, y, z]) => ({ x, y, z });
  const on = (name) => layers.elements[name].checked;

  function make() {
    box.replaceChildren();
    try {
      viewer = $3Dmol.createViewer(box, { backgroundColor: Theme.color("ground"), antialias: true });
    } catch { viewer = null; }
    if (!viewer) {
      const text = document.createElement("p");
      text.className = "nothing";
      text.textContent = "This browser offers no WebGL: the figures of `definet report --figures` show the same structures.";
      box.replaceChildren(text);
    }
    return viewer;
  }
  function rows(overlay) {
    const all = overlay.elements.map((_, row) => row);
    return on("all") ? all : all.filter((row) => Math.hypot(...overlay.unrelaxed[row].slice(0, 2)) < REACH);
  }
  function relaxed(overlay, kept) {
    const place = new Map(kept.map((row, index) => [row, index])), end = overlay.relaxed;
    const atoms = kept.map((row) => ({ elem: overlay.elements[row], ...point(end[row]), bonds: [], bondOrder: [] }));
    for (const [a, b] of overlay.bonds.map((pair) => pair.map((row) => place.get(row)))) {
      if (a === undefined || b === undefined) continue;
      atoms[a].bonds.push(b); atoms[a].bondOrder.push(1);
      atoms[b].bonds.push(a); atoms[b].bondOrder.push(1);
    }
    const model = viewer.addModel();
    model.addAtoms(atoms);
    model.setStyle({}, { sphere: { radius: 0.3, colorscheme: "Jmol" }, stick: { radius: 0.05, colorscheme: "Jmol" } });
  }
  const apart = (a, b) => Math.hypot(...a.map((value, axis) => value - b[axis]));
  function spheres(overlay, table, kept, color) {
    for (const row of kept.filter((one) => apart(table[one], overlay.relaxed[one]) > VISIBLE)) viewer.addSphere({ center: point(table[row]), radius: 0.36, color, wireframe: true, linewidth: 2 });
  }
  function arrows(overlay, end, kept, color) {
    for (const row of kept) {
      const start = overlay.unrelaxed[row], move = start.map((value, axis) => overlay.scale * (end[row][axis] - value));
      if (Math.hypot(...move) < 0.15) continue; // shorter than its own head
      viewer.addArrow({ start: point(start), end: point(start.map((value, axis) => value + move[axis])), radius: 0.07, radiusRatio: 2.2, mid: 0.7, color });
    }
  }
  function labels(overlay, kept) {
    const style = { backgroundOpacity: 0.75, backgroundColor: Theme.color("panel"), fontColor: Theme.color("text"), fontSize: 13, inFront: true, alignment: "bottomCenter", screenOffset: { x: 0, y: 26 } };
    for (const row of kept) {
      const marker = overlay.markers[row];
      if (marker === PRISTINE || (marker === VACANCY && !on("vacancies"))) continue;
      viewer.addLabel(marker === VACANCY ? `v_${overlay.elements[row]}` : overlay.elements[row], { position: point(overlay.unrelaxed[row]), ...style });
    }
  }
  function draw() {
    if (shown === null || !(viewer ?? make())) return;
    const overlay = DATA.overlays[shown], near = rows(overlay), atoms = near.filter((row) => overlay.markers[row] !== VACANCY);
    viewer.setBackgroundColor(Theme.color("ground"));
    viewer.removeAllModels(); viewer.removeAllShapes(); viewer.removeAllLabels();
    if (on("relaxed")) relaxed(overlay, atoms);
    if (on("unrelaxed")) spheres(overlay, overlay.unrelaxed, atoms, Theme.color("unrelaxed"));
    if (on("predicted")) spheres(overlay, overlay.predicted, atoms, Theme.color("predicted"));
    if (on("vectors")) {
      arrows(overlay, overlay.relaxed, atoms, Theme.color("text"));
      if (on("predicted")) arrows(overlay, overlay.predicted, atoms, Theme.color("predicted"));
    }
    if (on("vacancies")) {
      const color = Theme.color("vacancy");
      for (const row of near.filter((one) => overlay.markers[one] === VACANCY)) viewer.addSphere({ center: point(overlay.unrelaxed[row]), radius: 0.75, color, opacity: 0.45 });
    }
    labels(overlay, near);
    viewer.render();
  }
  function reset() {
    viewer.setView([0, 0, 0, 0, 0, 0, 0, 1]);
    viewer.zoomTo();
    viewer.rotate(-60, "x");
    if (box.clientWidth > box.clientHeight) viewer.zoom(1.35); // there is room
    viewer.render();
  }
  function legend(overlay) {
    const colors = $3Dmol.builtinColorSchemes.Jmol.map, atoms = overlay.elements.filter((_, row) => overlay.markers[row] !== VACANCY);
    document.getElementById("elements").replaceChildren(...[...new Set(atoms)].sort().map((element) => {
      const item = document.createElement("li"), dot = document.createElement("i");
      dot.className = "dot";
      dot.style.background = `#${(colors[element] ?? 0xffffff).toString(16).padStart(6, "0")}`;
      item.append(dot, ` ${element}`);
      return item;
    }));
  }
  function show(index) {
    shown = index;
    buttons.forEach((button, one) => { button.setAttribute("aria-checked", String(one === index)); button.tabIndex = one === index ? 0 : -1; });
    const overlay = DATA.overlays[index], facts = [`configuration ${overlay.configuration_id}`, ...overlay.facts];
    document.getElementById("facts").replaceChildren(...[overlay.name, ...facts].map((text, line) => {
      const item = document.createElement("li"), inner = document.createElement(line ? "span" : "strong");
      inner.textContent = text;
      item.append(inner);
      return item;
    }));
    legend(overlay);
    document.getElementById("scale").textContent = `Arrows: displacements by the relaxation and, in blue, as predicted, ${overlay.scale} times as long as they are. Unrelaxed and predicted sites are drawn where they differ from the relaxed one by more than ${VISIBLE} Å.`;
    draw();
    if (viewer) reset();
    box.dataset.shown = String(index);
  }
  buttons.forEach((button, index) => {
    button.tabIndex = index ? -1 : 0;
    button.addEventListener("click", () => show(index));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const next = (index + step + buttons.length) % buttons.length;
      buttons[next].focus();
      show(next);
    });
  });
  const KEYS = {
    ArrowLeft: () => viewer.rotate(-10, "y"), ArrowRight: () => viewer.rotate(10, "y"), ArrowUp: () => viewer.rotate(-10, "x"), ArrowDown: () => viewer.rotate(10, "x"),
    "+": () => viewer.zoom(1.15), "=": () => viewer.zoom(1.15), "-": () => viewer.zoom(1 / 1.15), 0: reset,
  };
  box.addEventListener("keydown", (event) => {
    if (!viewer || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
    viewer.render();
  });
  layers.addEventListener("change", draw);
  document.addEventListener("theme", draw);
  const near = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) { near.disconnect(); if (shown === null) show(0); }
  });
  near.observe(box);
})();
