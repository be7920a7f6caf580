"use strict";
// Heads of a model, and where they look in chosen pairs. Reads the JSON in #data; every text is set as text.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const make = (tag, properties = {}, ...children) => { const e = Object.assign(document.createElement(tag), properties); e.append(...children); return e; };
  for (const id of ["attention", "head-controls"]) byId(id)?.removeAttribute("hidden"); // nothing without this script
  const state = { pair: 0, view: 0, layer: 1e9, head: null, query: -1, sinks: false }; // head null: mean; query -1: readout
  const SINK = 8; // a key that draws more than so many times its even share, in the mean over heads and rows of a layer
  const FULL = 4; // octaves: 16 times even attention, or a sixteenth of it, is the deepest colour

  // ---- weights: one byte each, the logarithm over six decades; 0 is nothing
  const TABLE = Float64Array.from({ length: 256 }, (_, q) => q === 0 ? 0 : 10 ** (6 * ((q - 1) / 254 - 1)));
  const bytes = new Map();
  const unpacked = (part) => {
    if (!bytes.has(part)) bytes.set(part, Uint8Array.from(atob(part.bytes), (sign) => sign.charCodeAt(0)));
    return bytes.get(part);
  };
  const shares = (part, view, layer, head, row) => { // Float64Array of the view's keys, or null
    if (!part) return null;
    const all = unpacked(part);
    const sum = new Float64Array(view.keys.kept);
    const chosen = part.heads === 1 ? [0] : head === null ? [...Array(part.heads).keys()] : [head];
    for (const h of chosen) {
      const start = ((layer * part.heads + h) * part.rows + row) * view.keys.kept;
      for (let k = 0; k < view.keys.kept; k++) sum[k] += TABLE[all[start + k]] / chosen.length;
    }
    return sum;
  };
  for (const pair of data.pairs) for (const view of pair.views) view.keys = { kept: view.side * view.side + view.others.length };

  const here = () => data.pairs[state.pair].views[state.view];
  const looked = (view, twin) => {
    const word = state.query >= 0;
    const part = twin ? (word ? view.twin_words : view.twin_readout) : (word ? view.word_rows : view.readout);
    return shares(part, view, state.layer, state.head, word ? state.query : 0);
  };
  const sinks = (view) => {
    const total = new Float64Array(view.keys.kept);
    let rows = 0;
    for (const part of [view.readout, view.word_rows]) {
      for (let row = 0; part && row < part.rows; row++, rows++) shares(part, view, state.layer, null, row).forEach((p, k) => { total[k] += p; });
    }
    const even = 1 / Math.max(...view.support);
    return new Set([...total.keys()].filter((k) => total[k] / rows > SINK * even && view.others[k - view.side ** 2]?.[1] !== "image"));
  };
  const without = (p, left) => {
    if (!state.sinks || !left.size) return p;
    const rest = p.reduce((sum, x, k) => left.has(k) ? sum : sum + x, 0);
    return p.map((x, k) => left.has(k) || rest === 0 ? 0 : x / rest);
  };

  // ---- one map: the picture, veiled where it gets less or more than even attention over the same patches
  const pictures = [...document.querySelectorAll("article.one img.shown")].map((img) => img.src);
  const image = new Image();
  const SIZE = 300;
  const paint = (canvas, view, p, left, name) => {
    const context = canvas.getContext("2d");
    const height = Math.round(SIZE * (image.naturalHeight || 1) / (image.naturalWidth || 1));
    canvas.width = SIZE; canvas.height = height;
    if (image.complete && image.naturalWidth) context.drawImage(image, 0, 0, SIZE, height);
    const n = view.side ** 2;
    const patches = p.subarray(0, n), mass = patches.reduce((a, b) => a + b, 0);
    const w = SIZE / view.side, h = height / view.side;
    let best = 0;
    for (let k = 0; k < n; k++) {
      const times = mass > 0 ? patches[k] * n / mass : 0;
      if (patches[k] > patches[best]) best = k;
      const depth = times > 0 ? Math.max(-1, Math.min(1, Math.log2(times) / FULL)) : -1;
      context.fillStyle = depth > 0 ? `rgba(230,97,0,${0.85 * depth})` : `rgba(93,58,155,${-0.75 * depth})`;
      const x = Math.floor(k % view.side * w), y = Math.floor(Math.floor(k / view.side) * h);
      context.fillRect(x, y, Math.ceil(w), Math.ceil(h));
      if (left.has(k)) { context.strokeStyle = "#fff"; context.lineWidth = 2; context.strokeRect(x + 2, y + 2, w - 4, h - 4); context.strokeStyle = "#000"; context.lineWidth = 1; context.strokeRect(x + 4, y + 4, w - 8, h - 8); }
    }
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", mass > 0
      ? `${name}: most on row ${Math.floor(best / view.side) + 1}, column ${best % view.side + 1} of ${view.side}, ${(patches[best] * n / mass).toFixed(1)} times even attention`
      : `${name}: no attention on the image`);
    return mass;
  };
  const number = (x) => x >= 0.01 ? x.toFixed(3) : x.toExponential(1);
  const bars = (view, own, twin, left) => {
    const n = view.side ** 2;
    const times = new Map(); // a word that stands twice is numbered
    const numbered = (text) => {
      times.set(text, (times.get(text) || 0) + 1);
      return times.get(text) > 1 ? `${text} (${times.get(text)})` : text;
    };
    const rest = view.others.map(([text], i) => ({ text: numbered(text), k: n + i })).sort((a, b) => own[b.k] - own[a.k]);
    const most = Math.max(1e-9, ...rest.map(({ k }) => Math.max(own[k], twin ? twin[k] : 0)));
    const shown = n ? rest.slice(0, 6) : rest.slice(0, 24);
    const bar = (x, kind) => make("span", { className: "b " + kind, style: `width:${Math.round(90 * x / most)}px` });
    const table = make("table", { className: "bars" }, make("caption", { textContent: n ? "Other keys" : "Keys" }));
    table.append(make("thead", {}, make("tr", {}, make("th", { textContent: "key", scope: "col" }), make("th", { textContent: "model", scope: "col" }), ...(twin ? [make("th", { textContent: "untrained", scope: "col" })] : []))));
    const body = make("tbody");
    for (const { text, k } of shown) {
      const head = make("th", { scope: "row", textContent: text });
      if (left.has(k)) head.append(make("span", { className: "sink", textContent: " ◉ sink" }));
      body.append(make("tr", {}, head, make("td", {}, bar(own[k], "m"), ` ${number(own[k])}`), ...(twin ? [make("td", {}, bar(twin[k], "t"), ` ${number(twin[k])}`)] : [])));
    }
    table.append(body);
    return make("div", {}, table, ...(rest.length > shown.length ? [make("p", { className: "about", textContent: `and ${rest.length - shown.length} more, each with less` })] : []));
  };
  const draw = (place) => {
    const view = here();
    if (!view) { place.replaceChildren(make("p", { textContent: "No attention is read in this pair." })); return; }
    const own0 = looked(view, false);
    if (!own0) { place.replaceChildren(make("p", { textContent: "This query was left out so that the page stays small." })); return; }
    const left = sinks(view), twin0 = looked(view, true);
    const own = without(own0, left), twin = twin0 && without(twin0, left);
    const support = view.support[state.query >= 0 ? state.query : view.support.length - 1];
    const parts = [];
    if (view.side) {
      const even = new Float64Array(view.keys.kept).fill(1 / support);
      const nullMass = `${number(Math.min(1, view.image_tokens / support))} of it on the image`;
      const panels = [["the model", own, null], ["null: even over the same keys", even, nullMass], ["untrained twin", twin, null]];
      for (const [name, p, said] of panels) {
        if (!p) { parts.push(make("figure", {}, make("figcaption", { textContent: `no ${name}: ${data.twin_why || "left out of this page for this query"}` }))); continue; }
        const canvas = make("canvas");
        const mass = paint(canvas, view, p, p === even ? new Set() : left, name);
        parts.push(make("figure", {}, make("figcaption", { textContent: name }), canvas, make("div", { className: "about", textContent: said || `${number(mass)} of it on the image` })));
      }
    } else if (view.image_tokens) parts.push(make("p", { className: "note", textContent: `No map over the picture: ${view.why}.` }));
    if (view.others.length) parts.push(bars(view, own, twin, left));
    const scale = make("div", { className: "scale" });
    if (view.side) scale.append("even ÷ 16 or less", make("span", { className: "ramp veil" }), "16 × even attention or more.");
    scale.append(left.size ? ` Sinks of this layer (over ${SINK} times their even share, in the mean over heads and queries): ${left.size}, framed on the picture or marked ◉.` : " No key of this layer is a sink.");
    if (!view.side) scale.append(` Even attention would give ${number(1 / support)} to each of the ${support} keys that this query sees.`);
    const figures = parts.filter((part) => part.tagName === "FIGURE");
    place.replaceChildren(...figures, scale, ...parts.filter((part) => part.tagName !== "FIGURE"));
  };

  // ---- controls
  const fill = (select, options, chosen) => { select.replaceChildren(...options.map(([value, text]) => make("option", { value, textContent: text, selected: String(value) === String(chosen) }))); };
  const label = (view) => {
    const both = view.towers.length > 1;
    const name = both ? "image and text together" : view.towers[0] === "text" ? (view.side || view.image_tokens ? "read for the text" : "text") : view.words.length ? "from the words to the image" : "image";
    return `${name} (${view.layers} layers)`;
  };
  const remember = () => {
    try { history.replaceState(null, "", `#pair=${data.pairs[state.pair].id}&view=${state.view}&layer=${state.layer}&head=${state.head ?? "mean"}&query=${state.query}`); } catch { /* a frame without an address */ }
  };
  const refresh = (quiet) => {
    const view = here();
    if (view) {
      state.layer = Math.min(state.layer, view.layers - 1);
      if (state.head !== null) state.head = Math.min(state.head, view.heads - 1);
      if (state.query >= view.words.length) state.query = -1;
      if (byId("p-view")) {
        fill(byId("p-view"), data.pairs[state.pair].views.map((v, i) => [i, label(v)]), state.view);
        fill(byId("p-layer"), [...Array(view.layers).keys()].map((i) => [i, i + 1]), state.layer);
        const averaged = (state.query >= 0 ? view.word_rows : view.readout)?.heads === 1 && view.heads > 1;
        fill(byId("p-head"), [["mean", averaged ? "mean (the page keeps no single heads here)" : "mean of all heads"], ...(averaged ? [] : [...Array(view.heads).keys()].map((i) => [i, i + 1]))], state.head ?? "mean");
        const buttons = [make("button", { type: "button", textContent: view.words.length ? "⟨readout⟩" : "⟨readout: what feeds the score⟩" }), ...view.words.map((word) => make("button", { type: "button", textContent: word }))];
        buttons.forEach((button, i) => {
          button.setAttribute("aria-pressed", String(state.query === i - 1));
          button.addEventListener("click", () => { state.query = i - 1; refresh(); byId("p-words").children[i].focus(); });
        });
        if (view.n_words > view.words.length) buttons.push(make("span", { className: "about", textContent: `${view.n_words - view.words.length} more words are not kept` }));
        byId("p-words").replaceChildren(...buttons);
      }
    }
    for (const place of document.querySelectorAll(".maps")) if (!place.closest(".view").hidden) draw(place);
    const where = byId("m-where");
    if (where && view) where.textContent = `layer ${state.layer + 1}, ${state.head === null ? "mean of all heads" : "head " + (state.head + 1)}, ${state.query < 0 ? "query: the readout" : "query: “" + view.words[state.query] + "”"}`;
    for (const cell of document.querySelectorAll("table.heads td")) cell.setAttribute("aria-selected", String(Number(cell.dataset.layer) === state.layer && Number(cell.dataset.head) === state.head));
    if (!quiet) remember();
  };
  const choosePair = (index, quiet) => {
    state.pair = index;
    state.view = Math.min(state.view, Math.max(0, data.pairs[index].views.length - 1));
    for (const article of document.querySelectorAll("article.one")) article.hidden = Number(article.dataset.pair) !== index;
    for (const button of document.querySelectorAll(".pick-pair")) button.setAttribute("aria-pressed", String(Number(button.dataset.pair) === index));
    for (const select of document.querySelectorAll(".pair-select")) select.value = String(index);
    image.onload = () => refresh(true);
    image.src = pictures[index];
    refresh(quiet);
  };
  for (const button of document.querySelectorAll(".pick-pair")) button.addEventListener("click", () => choosePair(Number(button.dataset.pair)));
  for (const select of document.querySelectorAll(".pair-select")) select.addEventListener("change", () => choosePair(Number(select.value)));
  const on = (id, change) => byId(id)?.addEventListener("change", (event) => { change(event.target); refresh(); });
  on("p-view", (e) => { state.view = Number(e.value); });
  on("p-layer", (e) => { state.layer = Number(e.value); });
  on("p-head", (e) => { state.head = e.value === "mean" ? null : Number(e.value); });
  on("p-sinks", (e) => { state.sinks = e.checked; });

  // ---- swaps: a row shows what the model was shown
  for (const article of document.querySelectorAll("article.one")) {
    const shown = article.querySelector("img.shown"), own = shown.src, said = article.querySelector(".said");
    const rows = [...article.querySelectorAll(".swaps tbody tr")];
    rows.forEach((row) => {
      if (row.querySelector("td.none")) return;
      const head = row.cells[0];
      const button = make("button", { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        for (const other of rows) { other.classList.remove("shown-now"); other.querySelector("button")?.setAttribute("aria-pressed", "false"); }
        row.classList.add("shown-now");
        button.setAttribute("aria-pressed", "true");
        const kind = row.dataset.image;
        shown.src = kind === "image" ? shown.dataset.other : kind === "mean" ? data.mean : own;
        shown.alt = kind === "image" ? "The picture of another pair" : kind === "mean" ? data.mean_is : "The pair’s own picture";
        said.textContent = row.dataset.caption || said.dataset.own;
      });
    });
  }

  // ---- what words and cells add
  for (const place of document.querySelectorAll(".tshap")) {
    const pair = data.pairs[Number(place.dataset.pair)], tokens = pair.tokens, picture = new Image();
    const most = Math.max(1e-12, ...tokens.words.concat(tokens.cells).map(Math.abs));
    const colour = (x) => x > 0 ? `rgba(230,97,0,${0.8 * x / most})` : `rgba(93,58,155,${-0.8 * x / most})`;
    const canvas = make("canvas", { width: SIZE, height: SIZE, style: "max-width:300px" });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Image cells, ${tokens.side} a side; the largest adds ${Math.max(...tokens.cells).toPrecision(3)} to the score`);
    picture.onload = () => {
      const context = canvas.getContext("2d");
      context.drawImage(picture, 0, 0, SIZE, SIZE);
      tokens.cells.forEach((x, k) => {
        const w = SIZE / tokens.side;
        context.fillStyle = colour(x);
        context.fillRect(k % tokens.side * w, Math.floor(k / tokens.side) * w, w, w);
      });
    };
    picture.src = pictures[Number(place.dataset.pair)];
    place.append(canvas, make("p", { className: "about", textContent: `Orange adds to the score, violet takes from it; the deepest colour is ${most.toPrecision(3)}.` }));
  }

  // ---- layers by heads
  const STOPS = [[0, 34, 78], [53, 69, 108], [102, 105, 112], [148, 142, 119], [200, 184, 102], [254, 232, 56]];
  const heat = (share) => {
    const at = Math.max(0, Math.min(1, share)) * (STOPS.length - 1), i = Math.min(STOPS.length - 2, Math.floor(at));
    return `rgb(${STOPS[i].map((from, c) => Math.round(from + (STOPS[i + 1][c] - from) * (at - i))).join(",")})`;
  };
  const tower = byId("h-tower");
  if (tower && data.heads.length) {
    fill(tower, data.heads.map((h, i) => [i, `${h.name} (${h.model.entropy.all.length} layers × ${h.model.entropy.all[0].length} heads)`]), 0);
    const metric = byId("h-metric"), rows = byId("h-rows");
    const empty = (table, layers, heads) => { // cells once for a shape: a thousand take long to make
      table.classList.toggle("small", heads > 16);
      table.classList.toggle("large", heads <= 8);
      const body = make("tbody");
      const names = make("tr", {}, make("th", { textContent: "layer ╲ head" }));
      for (let h = 0; h < heads; h++) names.append(make("th", { scope: "col", textContent: heads <= 16 || h % 4 === 0 ? h + 1 : "" }));
      body.append(names);
      for (let layer = 0; layer < layers; layer++) {
        const line = make("tr", {}, make("th", { scope: "row", textContent: layer + 1 }));
        for (let head = 0; head < heads; head++) {
          const cell = make("td", { tabIndex: layer || head ? -1 : 0 });
          cell.setAttribute("role", "gridcell");
          cell.dataset.layer = layer;
          cell.dataset.head = head;
          line.append(cell);
        }
        body.append(line);
      }
      table.replaceChildren(body);
    };
    const grid = (table, values, low, high, what) => {
      const shape = `${values.length} ${values[0].length}`;
      if (table.dataset.shape !== shape) empty(table, values.length, values[0].length);
      table.dataset.shape = shape;
      const cells = table.querySelectorAll("td");
      values.flat().forEach((x, i) => {
        cells[i].className = x === null ? "undefined" : "";
        cells[i].style.backgroundColor = x === null ? "" : heat((x - low) / (high - low));
        cells[i].ariaLabel = `layer ${Math.floor(i / values[0].length) + 1}, head ${i % values[0].length + 1}, ${what} ${x === null ? "undefined" : x.toFixed(3)}`;
      });
    };
    const show = () => {
      const one = data.heads[Number(tower.value)];
      metric.querySelector("[value=mass]").disabled = !one.model.mass;
      if (!one.model.mass) metric.value = "entropy";
      const values = one.model[metric.value][rows.value], twin = one.twin?.[metric.value]?.[rows.value];
      const known = values.concat(twin || []).flat().filter((x) => x !== null);
      const low = Math.min(...known), high = Math.max(...known, low + 1e-9);
      const what = metric.value === "entropy" ? "entropy ÷ ln n" : "share on the image";
      grid(byId("heads-model"), values, low, high, what);
      if (twin) grid(byId("heads-twin"), twin, low, high, what);
      const null_ = metric.value === "entropy" ? "even attention: 1" : `even attention: ${one.mass_null[rows.value]?.toFixed(3) ?? "undefined"}`;
      byId("h-legend").replaceChildren(`${what}: ${low.toFixed(3)}`, make("span", { className: "ramp heat" }), `${high.toFixed(3)} (colours are fitted to this range). Null, ${null_}. Hatched: undefined.`);
      const view = data.pairs[state.pair].views.findIndex((v) => v.towers.includes(one.tower));
      if (view >= 0) state.view = view;
      refresh(true);
    };
    for (const select of [tower, metric, rows]) select.addEventListener("change", show);
    for (const table of document.querySelectorAll("table.heads")) {
      const pick = (cell) => { state.layer = Number(cell.dataset.layer); state.head = Number(cell.dataset.head); refresh(); };
      const read = (event) => { const cell = event.target.closest("td"); if (cell) byId("h-read").textContent = cell.ariaLabel; };
      table.addEventListener("mouseover", read);
      table.addEventListener("focusin", read);
      table.addEventListener("click", (event) => { const cell = event.target.closest("td"); if (cell) pick(cell); });
      table.addEventListener("keydown", (event) => {
        const cell = event.target.closest("td");
        const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
        if (cell && step) {
          const to = table.querySelector(`td[data-layer="${Number(cell.dataset.layer) + step[0]}"][data-head="${Number(cell.dataset.head) + step[1]}"]`);
          if (to) { cell.tabIndex = -1; to.tabIndex = 0; to.focus(); }
          event.preventDefault();
        } else if (cell && (event.key === "Enter" || event.key === " ")) { pick(cell); event.preventDefault(); }
      });
    }
    show();
  }

  const fromAddress = () => { // pair=<image id>&view&layer&head&query
    const asked = new URLSearchParams(location.hash.slice(1));
    const index = data.pairs.findIndex((pair) => String(pair.id) === asked.get("pair"));
    if (index < 0) return false;
    const whole = (name, otherwise) => asked.has(name) && /^-?\d+$/.test(asked.get(name)) ? Number(asked.get(name)) : otherwise;
    state.view = Math.max(0, whole("view", state.view));
    state.layer = Math.max(0, whole("layer", state.layer));
    state.head = asked.get("head") === "mean" ? null : whole("head", state.head);
    state.query = Math.max(-1, whole("query", state.query));
    document.querySelector('nav a[href="#pair"]').click();
    choosePair(index);
    return true;
  };
  window.addEventListener("hashchange", fromAddress);
  if (!fromAddress()) choosePair(0, true);
  document.addEventListener("view", () => refresh(true)); // what was hidden is drawn now
})();
