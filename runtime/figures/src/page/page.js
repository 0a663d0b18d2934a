"use strict";
// What is under the pointer, at once: the titles of marks, or the cell of a large heat map.
(() => {
  const tip = document.getElementById("tip");
  const texts = new WeakMap();
  const parts = new WeakMap();

  function titled(mark) {
    if (!texts.has(mark)) {
      const title = mark.querySelector(":scope > title");
      texts.set(mark, title ? title.textContent : "");
      // Without this the browser would show it as well.
      if (title) title.remove();
    }
    return texts.get(mark);
  }

  function cell(tiles, event) {
    if (!parts.has(tiles)) {
      const data = tiles.dataset;
      parts.set(tiles, {
        grid: data.grid.split(" ").map(Number),
        columns: JSON.parse(data.columns),
        rows: JSON.parse(data.rows),
        values: data.values.split(","),
        metric: data.metric,
      });
    }
    const { grid, columns, rows, values, metric } = parts.get(tiles);
    const matrix = tiles.getScreenCTM();
    if (!matrix) return "";
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
    const column = Math.floor((at.x - grid[0]) / grid[2]);
    const row = Math.floor((at.y - grid[1]) / grid[3]);
    if (column < 0 || row < 0 || column >= columns.length || row >= rows.length) return "";
    const value = values[row * columns.length + column];
    const place = [rows[row], columns[column]].filter(Boolean).join(", ");
    return place + "\n" + metric + " " + (value === "" ? "not computed" : value);
  }

  function show(event) {
    const target = event.target instanceof Element ? event.target : null;
    const tiles = target && target.closest(".plot g[data-grid]");
    const mark = target && target.closest(".plot svg *");
    const text = tiles ? cell(tiles, event) : mark ? titled(mark) : "";
    tip.hidden = text === "";
    if (tip.hidden) return;
    tip.textContent = text;
    const { width, height } = tip.getBoundingClientRect();
    const left = Math.min(event.clientX + 14, innerWidth - width - 8);
    const below = event.clientY + 18;
    tip.style.left = Math.max(8, left) + "px";
    tip.style.top = (below + height > innerHeight - 8 ? event.clientY - height - 10 : below) + "px";
  }

  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  document.addEventListener("scroll", () => { tip.hidden = true; }, true);
  // A link to a line opens the script.
  function open() {
    const line = document.getElementById(location.hash.slice(1));
    const folded = line && line.closest("details");
    if (folded && !folded.open) { folded.open = true; line.scrollIntoView(); }
  }
  addEventListener("hashchange", open);
  open();
  addEventListener("beforeprint", () => document.querySelectorAll("details.script").forEach((d) => { d.open = true; }));
})();
