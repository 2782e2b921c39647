const options = { mode: "vega-lite", renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } };
const views = new Map();

async function draw(figure, choice) {
  const panels = JSON.parse(figure.querySelector("script").textContent)[choice];
  const boxes = figure.querySelectorAll(".chart");
  for (const [i, box] of boxes.entries()) {
    views.get(box)?.finalize();
    views.set(box, await vegaEmbed(box, panels[i], options));
    await new Promise((next) => setTimeout(next));  // lets the page answer between two charts
  }
}

// A link to a run opens what it lies in.
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let box = target?.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
  target?.scrollIntoView({ block: "center" });
}

function start() {
  const figures = document.querySelectorAll("figure.charts");
  for (const figure of figures) {
    for (const input of figure.querySelectorAll(".choice input")) input.addEventListener("change", () => draw(figure, input.value));
  }
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();
  // A chart is drawn when it is first seen: most readers open a few of them.
  const seen = new IntersectionObserver((entries) => {
    for (const { target: figure, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(figure);
      draw(figure, figure.querySelector(".choice input:checked")?.value ?? "");
    }
  }, { rootMargin: "300px" });
  for (const figure of figures) seen.observe(figure);
}
start();
