// Draws the figures when they come near, gives them the page's colours, and keeps the theme.
(function () {
  "use strict";
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const plots = Array.from(document.querySelectorAll(".plot"));
  const drawn = new Set();

  // A figure names its colours and fonts as CSS variables; plotly wants values.
  function resolved(value, style) {
    if (typeof value === "string") {
      const name = /^var\((--[a-z0-9-]+)\)$/.exec(value);
      return name ? style.getPropertyValue(name[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((inner) => resolved(inner, style));
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, resolved(inner, style)]));
    return value;
  }

  function draw(plot) {
    const figure = resolved(figures[plot.id], window.getComputedStyle(root));
    const layout = Object.assign(figure.layout, { dragmode: window.matchMedia("(pointer: fine)").matches ? "zoom" : false });
    drawn.add(plot);
    Plotly.react(plot, figure.data, layout, { responsive: true, displayModeBar: false, displaylogo: false, showTips: false })
      .then(() => { plot.dataset.drawn = "yes"; });
  }

  function redraw() { drawn.forEach(draw); }

  plots.forEach((plot) => { plot.style.minHeight = plot.dataset.height + "px"; });
  const near = new IntersectionObserver((entries) => {
    entries.filter((entry) => entry.isIntersecting && !drawn.has(entry.target)).forEach((entry) => draw(entry.target));
  }, { rootMargin: "800px" });
  plots.forEach((plot) => near.observe(plot));

  // The rest is drawn while the reader reads, so that search, print and "save as" find whole figures.
  const later = window.requestIdleCallback || ((work) => window.setTimeout(work, 50));
  function drawNext() {
    const next = plots.find((plot) => !drawn.has(plot));
    if (!next) return;
    draw(next);
    later(drawNext);
  }
  window.addEventListener("load", () => later(drawNext));

  document.querySelectorAll("button[data-svg]").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", () => {
      const plot = document.getElementById(button.dataset.svg);
      if (!drawn.has(plot)) draw(plot);
      Plotly.toImage(plot, { format: "svg", width: plot.clientWidth, height: plot.clientHeight }).then((url) => {
        const link = document.createElement("a");
        link.href = url;
        link.download = button.dataset.name;
        link.click();
      });
    });
  });

  const contents = document.getElementById("contents");
  const wide = window.matchMedia("(min-width: 1180px)");
  function unfold() { contents.open = wide.matches; }
  unfold();
  wide.addEventListener("change", unfold);

  const themes = ["automatic", "light", "dark"];
  const button = document.getElementById("theme");
  function label() { button.textContent = "Theme: " + (root.dataset.theme || "automatic"); }
  function choose(theme) {
    if (theme === "automatic") delete root.dataset.theme;
    else root.dataset.theme = theme;
    label();
    redraw();
  }
  button.hidden = false;
  label();
  button.addEventListener("click", () => {
    const theme = themes[(themes.indexOf(root.dataset.theme || "automatic") + 1) % themes.length];
    try { window.localStorage.setItem("memspike-theme", theme); } catch (refused) { /* chosen for this visit only */ }
    choose(theme);
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  // Paper is light and 180 mm wide.
  let before = "automatic";
  window.addEventListener("beforeprint", () => {
    before = root.dataset.theme || "automatic";
    plots.forEach((plot) => { drawn.add(plot); });
    choose("light");
    plots.forEach((plot) => Plotly.relayout(plot, { width: { wide: 630, half: 290, small: 180 }[plot.parentNode.className] || 290 }));
  });
  window.addEventListener("afterprint", () => choose(before));
})();
