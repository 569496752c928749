"use strict";
(async () => {
  const packed = document.getElementById("plotly");
  if (!packed) return;
  const boxes = [...document.querySelectorAll("[data-chart]")];
  const say = (text) => boxes.forEach((box) => { box.querySelector(".wait").textContent = text; });
  if (typeof DecompressionStream === "undefined") {
    say("This browser cannot unpack the charts (it has no DecompressionStream): open the file in a browser of 2023 or later.");
    return;
  }
  const figures = JSON.parse(document.getElementById("figures").textContent);
  try {
    const bytes = Uint8Array.from(atob(packed.textContent.trim()), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  } catch (error) {
    say("The charts could not be unpacked: the file is damaged.");
    return;
  }

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = () => innerWidth < 600;
  let printing = false;
  let size = "entries";

  // a figure with the colours of the page, and for its width
  const fitted = (name) => {
    const { data, layout } = structuredClone(figures[name]);
    const night = dark.matches && !printing;
    const ink = night ? "#e6e3de" : "#1c2126", line = night ? "#343a40" : "#dedbd5", paper = night ? "#15181b" : "#fbfaf8";
    layout.font.color = ink;
    layout.font.family = getComputedStyle(document.body).fontFamily;
    for (const axis of ["xaxis", "yaxis"]) {
      layout[axis] = { gridcolor: line, zerolinecolor: line, ...layout[axis] };
    }
    layout.hoverlabel = { bgcolor: night ? "#2a3036" : "#ffffff", bordercolor: line, font: { color: ink }, align: "left" };
    if (name === "map") {
      const { values, sides } = layout.meta;
      data[0].values = values[size];
      data[0].marker.line.color = paper;
      if (night) {
        data[0].marker.colors = data[0].marker.colors.map((colour, place) => sides[place] === "both" ? "#2f353b" : colour);
        data[0].textfont.color = data[0].textfont.color.map((colour, place) => sides[place] === "both" ? ink : colour);
      }
      if (narrow()) { data[0].maxdepth = 4; layout.height = 560; layout.font.size = 11; }
    }
    if (narrow()) layout.font.size = 11;
    if (printing) layout.width = 680;
    return [data, layout, { displaylogo: false, responsive: !printing, displayModeBar: name === "timeline" ? "hover" : false,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "toImage"], scrollZoom: false }];
  };
  const draw = (box) => {
    const wait = box.querySelector(".wait");
    if (wait) wait.remove();
    return Plotly.react(box, ...fitted(box.dataset.chart));
  };
  const all = () => Promise.all(boxes.map(draw));

  for (const button of document.querySelectorAll("button[data-size]")) {
    button.addEventListener("click", () => {
      size = button.dataset.size;
      document.querySelectorAll("button[data-size]").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      draw(document.querySelector('[data-chart="map"]'));
    });
  }
  await all();
  document.documentElement.dataset.drawn = "yes";
  dark.addEventListener("change", all);

  const opened = [];
  addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll("details:not([open])")) { fold.open = true; opened.push(fold); }
    printing = true;
    all();
  });
  addEventListener("afterprint", () => {
    while (opened.length) opened.pop().open = false;
    printing = false;
    all();
  });
})();
