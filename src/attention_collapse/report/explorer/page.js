"use strict";
// What every page has: views behind the tabs, tables that sort and filter, and numbers that name their evidence.
(() => {
  const views = [...document.querySelectorAll(".view")];
  const tabs = [...document.querySelectorAll("nav a")];
  const box = document.getElementById("cite");

  const show = (name) => {
    for (const view of views) view.hidden = view.id !== name;
    for (const tab of tabs) {
      if (tab.getAttribute("href") === "#" + name) tab.setAttribute("aria-current", "page");
      else tab.removeAttribute("aria-current");
    }
    document.dispatchEvent(new Event("view"));
  };

  // The address of a number is file@run:Lline. One of another run is told apart from one that never was.
  const told = (link) => {
    const [, file, run, line] = link.getAttribute("href").match(/^#(.*)@(.*):L(\d+)$/);
    return [link.title, `${file}, line ${line}`, `run (evidence id) ${run}`, `permalink: ${link.getAttribute("href")}`];
  };
  const say = (lines) => {
    const close = document.createElement("button");
    close.textContent = "Close";
    close.addEventListener("click", () => { box.hidden = true; });
    box.replaceChildren(close, ...lines.map((line) => Object.assign(document.createElement("div"), { textContent: line })));
    box.hidden = false;
  };
  const reveal = (target) => {
    for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    const view = target.closest(".view");
    if (view) show(view.id);
    target.closest("tr")?.removeAttribute("hidden");
    target.scrollIntoView({ block: "center" });
  };
  const go = (name) => {
    const target = document.getElementById(name);
    for (const old of document.querySelectorAll(".found")) old.classList.remove("found");
    if (target) {
      reveal(target);
      if (target.classList.contains("n")) { target.classList.add("found"); say(told(target)); }
      return true;
    }
    const cited = name.match(/^(.*)@(.*):L(\d+)$/);
    if (!cited) return false;
    const now = document.querySelector(`a.n[id^="${CSS.escape(cited[1] + "@")}"]`);
    const run = now ? now.id.slice(cited[1].length + 1).replace(/:L\d+$/, "") : null;
    say(run === null ? [`${cited[1]} is not shown on this page`]
      : run === cited[2] ? [`line ${cited[3]} of ${cited[1]} is not shown on this page`]
        : [`This address is of run ${cited[2]} of ${cited[1]}.`, `The page shows run ${run}: its numbers may differ.`]);
    return true;
  };
  const remember = (name) => { try { history.replaceState(null, "", "#" + name); } catch { /* a frame without an address */ } };
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (!link) return;
    const name = decodeURIComponent(link.getAttribute("href").slice(1));
    if (views.some((view) => view.id === name)) show(name);
    else if (link.classList.contains("n")) {
      for (const old of document.querySelectorAll(".found")) old.classList.remove("found");
      link.classList.add("found");
      say(told(link));
    } else if (!go(name)) return;
    event.preventDefault();
    remember(name);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") box.hidden = true; });

  const value = (row, column, kind) => {
    const cell = row.cells[column];
    if (kind === "number") return cell.dataset.v === "" || cell.dataset.v === undefined ? null : Number(cell.dataset.v);
    return cell.textContent.trim();
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (!head.dataset.sort) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows].map((row) => [value(row, column, head.dataset.sort), row]);
        const order = (a, b) => a === b ? 0 : a === null ? Infinity : b === null ? -Infinity
          : (typeof a === "number" ? a - b : a.localeCompare(b)) * (down ? -1 : 1);
        rows.sort(([a], [b]) => order(a, b)); // what is undefined comes last either way
        table.tBodies[0].append(...rows.map(([, row]) => row));
      });
    });
  }

  const grid = document.getElementById("grid");
  if (grid) {
    const [model, about, text, claims, controls, count] =
      ["model", "about", "text", "claims", "controls", "count"].map((name) => document.getElementById("f-" + name));
    const filter = () => {
      let shown = 0;
      const words = text.value.trim().toLowerCase();
      for (const row of grid.tBodies[0].rows) {
        const d = row.dataset;
        row.hidden = (model.value && d.model !== model.value) || (about.value && d.about !== about.value)
          || (claims.checked && d.claims === "no") || (!controls.checked && d.standing === "control")
          || (words && !row.textContent.toLowerCase().includes(words));
        shown += !row.hidden;
      }
      count.textContent = `${shown} of ${grid.tBodies[0].rows.length} rows`;
    };
    for (const input of [model, about, text, claims, controls]) input.addEventListener("input", filter);
    document.querySelector(".filters").addEventListener("submit", (event) => event.preventDefault());
    filter();
  }

  for (const field of document.querySelectorAll("fieldset.pick")) {
    const pick = () => {
      const chosen = new Set([...field.querySelectorAll("input:checked")].map((input) => input.value));
      for (const figure of document.getElementById(field.dataset.target).children) figure.hidden = !chosen.has(figure.dataset.name);
    };
    field.addEventListener("input", pick);
    pick();
  }

  const start = () => {
    const name = decodeURIComponent(location.hash.slice(1));
    if (!name || !(name.includes("=") || go(name))) show(views[0].id); // with a sign of equality: model.js reads it
  };
  if (views.length) show(document.getElementById("main").dataset.first || views[0].id);
  window.addEventListener("hashchange", start);
  if (location.hash) start();
})();
