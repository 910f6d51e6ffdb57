// Draws the page's pictures and lets its form choose what they show. vegaEmbed is the library above.
"use strict";
const form = document.getElementById("controls");
const views = [];
const dark = matchMedia("(prefers-color-scheme: dark)").matches;

function chosen() {
  const data = new FormData(form);
  return { metric: data.get("metric"), shown: data.getAll("shown").map(Number), round: Number(data.get("round")) };
}

function apply(view) {
  const known = view.getState({ data: () => false, signals: () => true }).signals;
  for (const [name, value] of Object.entries(chosen())) {
    if (name in known && value !== null) view.signal(name, value);
  }
  return view.runAsync();
}

function draw(name, spec) {
  const options = { renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } };
  options.tooltip = { theme: dark ? "dark" : "light" };
  return vegaEmbed(`#chart-${name}`, spec, options).then((result) => {
    views.push(result.view);
    return form ? apply(result.view) : undefined;
  });
}

const specs = Object.entries(JSON.parse(document.getElementById("specs").textContent));
Promise.all(specs.map(([name, spec]) => draw(name, spec))).then(() => {
  document.body.dataset.drawn = String(specs.length);
});
if (form) {
  form.addEventListener("change", () => views.forEach(apply));
  form.addEventListener("submit", (event) => event.preventDefault());
}
