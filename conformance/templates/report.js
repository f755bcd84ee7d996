// Draws the list of cases from the page's data. Texts enter the page as text alone, never as markup.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const symbols = { conform: "✓", differs: "✗", errored: "!", unsupported: "○", xfailed: "x" };
  const gravest = ["errored", "differs", "conform", "xfailed", "unsupported"];
  const AT_ONCE = 100;
  const byId = (id) => document.getElementById(id);
  const fields = ["q", "loss", "backend", "dtype", "status"];

  const make = (tag, properties, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (name === "class") element.className = value;
      else element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== ""));
    return element;
  };
  const number = (x) => Number(typeof x === "string" ? { inf: "Infinity", "-inf": "-Infinity" }[x] ?? x : x);
  const share = (x) => (!Number.isFinite(x) ? String(x).replace("Infinity", "∞") : x === 0 ? "0"
    : x >= 1e4 || x < 0.01 ? x.toExponential(0) : x < 10 ? x.toFixed(2) : x.toFixed(0));
  const plain = (x) => (typeof x === "number" && x !== 0 && Math.abs(x) < 1e-3 ? x.toExponential() : String(x));
  const place = (index) => (index.length ? `(${index.join(", ")})` : "");

  const parsePart = (part) => part && {
    error: part[0], bound: part[1], got: part[2], expected: part[3], rtol: part[4], atol: part[5], ulp: part[6],
    native: part[7] || [], index: part.slice(8), ratio: number(part[0]) === 0 ? 0 : number(part[0]) / number(part[1]),
  };
  const parseResult = (row) => {
    const [backend, mode, status, value, gradient, milliseconds, native, warning, message, link, maps] = row;
    const parts = [["value", parsePart(value)], ["gradient", parsePart(gradient)]].filter(([, part]) => part);
    return {
      backend, mode: data.modes[mode], status: data.statuses[status], parts, milliseconds,
      native: data.natives[native], warning: data.warnings[warning],
      message: message === undefined ? "" : data.messages[message],
      link: link === undefined ? "" : data.links[link],
      maps: maps === undefined ? null : maps < 0 ? {} : data.maps[maps],
      leftOut: maps === -1,
      ratio: Math.max(-1, ...parts.map(([, part]) => part.ratio).filter((ratio) => !Number.isNaN(ratio))),
    };
  };
  const cases = data.cases.map(([rest, prefixed, loss, dtype, condition, parameters, inputs, results]) => {
    const found = {
      loss: data.losses[loss], dtype: data.dtypes[dtype], condition: data.conditions[condition],
      parameters: data.parameters[parameters], inputs: data.inputs[inputs], rows: results,
    };
    found.id = (prefixed ? `${found.loss}/` : "") + rest;
    found.statuses = results.map((row) => [data.backends[row[0]], data.statuses[row[2]], Boolean(data.warnings[row[7]])]);
    found.text = `${found.id} ${found.condition} ${found.parameters}`.toLowerCase();
    return found;
  });

  // ---------------------------------------------------------------------------------------------- what is shown
  const isWanted = (status, wanted) => (!wanted || (wanted === "bad" ? status === "differs" || status === "errored" : status === wanted));
  const passes = (status, warned, wanted) => (wanted === "warned" ? warned && status === "conform" : isWanted(status, wanted));
  const chosen = (state) => {
    const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    return cases.filter((item) => (!state.case || item.id === state.case)
      && (!state.loss || item.loss === state.loss) && (!state.dtype || item.dtype === state.dtype)
      && words.every((word) => item.text.includes(word))
      && item.statuses.some(([backend, status, warned]) => (!state.backend || backend === state.backend) && passes(status, warned, state.status)));
  };
  const tag = (status, words, title) => make("span", { class: `tag is-${status}`, title }, make("b", {}, symbols[status]),
    words ? make("span", { class: "ratio" }, ` ${words}`) : "");
  const summary = (results, backend) => {
    const own = results.filter((result) => result.backend === backend);
    if (!own.length) return make("span", {}, "");
    const status = gravest.find((one) => own.some((result) => result.status === one));
    const ratio = Math.max(...own.map((result) => result.ratio));
    // Where an exact check failed no number says how badly.
    const words = ratio < 0 || (ratio <= 1 && isWanted(status, "bad")) ? "" : share(ratio);
    return tag(status, words, `${data.backends[backend]}: ${status}${words && `, worst ${words}`}`);
  };
  const line = (item) => {
    const results = item.rows.map(parseResult);
    const open = make("button", { class: "open", type: "button", "aria-expanded": "false" }, item.id);
    const row = make("div", { class: "row" }, open, ...data.backends.map((_, backend) => summary(results, backend)));
    const entry = make("li", { "data-case": item.id }, row);
    open.addEventListener("click", () => toggle(entry, open, item, results));
    return entry;
  };
  const toggle = (entry, open, item, results) => {
    const drill = entry.querySelector(".drill");
    if (drill) drill.remove();
    else entry.append(detail(item, results));
    open.setAttribute("aria-expanded", String(!drill));
  };

  // ---------------------------------------------------------------------------------------------- one case
  const detail = (item, results) => {
    const box = make("div", { class: "drill" });
    box.append(make("p", {}, make("strong", {}, item.condition), item.parameters ? " · " : "", make("code", { class: "parameters" }, item.parameters)));
    box.append(make("p", { class: "inputs" }, "Inputs: ", make("code", {}, item.inputs)));
    box.append(numbers(results));
    for (const result of results) if (result.message) box.append(message(result));
    for (const result of results) if (result.warning) box.append(warning(result));
    for (const result of results) if (result.maps) box.append(maps(result));
    box.append(make("h3", {}, "Repeat it"));
    const backends = data.backends.filter((_, backend) => results.some((result) => result.backend === backend));
    box.append(make("pre", { class: "repeat" }, backends.map((name) => command(item, name)).join("\n")));
    return box;
  };
  const quote = (text) => (/^[\w@%+=:,.\/-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);
  const command = (item, name) => `unilossseg conformance run --loss ${quote(item.loss)} -k ${quote(item.id)} --out conformance-repeat --backend ${data.repeated[data.backends.indexOf(name)]}`;

  const HEADS = ["", "result", "", "error ÷ allowed", "computed", "float64 reference", "error", "allowed", "rtol needed", "atol needed", "most ulps", "RMSE ÷ native", "largest ÷ native", "native", "worst at", "ms"];
  const ratios = (part, result) => {
    const [rmse, largest] = part.native || [];
    return rmse === undefined ? ["", "", ""] : [share(number(rmse)), share(number(largest)), result.native];
  };
  const numbers = (results) => {
    const body = make("tbody");
    for (const result of results) {
      const head = [make("th", { scope: "row" }, `${data.backends[result.backend]}, ${result.mode}`), make("td", {}, tag(result.status, result.status, result.status))];
      const parts = result.parts.length ? result.parts : fromMaps(result);
      if (!parts.length) body.append(make("tr", {}, ...head, make("td", { colspan: "14", class: "muted" }, "")));
      parts.forEach(([name, part], at) => {
        const cells = [name, part.ratio === undefined ? "" : share(part.ratio), part.got, part.expected, part.error, part.bound, part.rtol,
          part.atol, part.ulp, ...ratios(part, result), place(part.index), at ? "" : result.milliseconds];
        body.append(make("tr", {}, ...(at ? [make("th"), make("td")] : head), ...cells.map((cell) => make("td", {}, cell === undefined ? "" : plain(cell)))));
      });
    }
    const heads = make("tr", {}, ...HEADS.map((head) => make("th", { scope: "col" }, head)));
    return make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Numbers" }, make("table", {}, make("thead", {}, heads), body));
  };
  // What an exact check refused has no error in numbers, but two values where it is worst.
  const fromMaps = (result) => Object.entries(result.maps || {}).map(([name, [index, got, expected]]) => [name, { index, got, expected }]);

  const message = (result) => {
    const box = make("div", {}, make("h3", {}, `${data.backends[result.backend]}, ${result.mode}: ${result.status}`), make("pre", {}, result.message));
    if (/^https?:\/\//.test(result.link)) box.append(make("a", { href: result.link, rel: "noopener noreferrer" }, result.link));
    else if (result.link) box.append(make("code", {}, result.link));
    return box;
  };

  const warning = (result) => make("div", {}, make("h3", {}, `${data.backends[result.backend]}, ${result.mode}: warning`), make("pre", {}, result.warning));

  // ---------------------------------------------------------------------------------------------- errors of an array
  // Blue up to what is allowed, orange beyond: two ends that every eye tells apart, and the number stands in the cell.
  const colour = (x) => {
    if (x === 0) return "#f4f4f4";
    const depth = Number.isFinite(x) ? Math.min(1, Math.abs(Math.log10(x)) / 4) : 1;
    return x <= 1 ? `hsl(205 65% ${70 + 22 * depth}%)` : `hsl(24 95% ${82 - 27 * depth}%)`;
  };
  const maps = (result) => {
    const box = make("div", { class: "errors" }, make("h3", {}, `Errors: ${data.backends[result.backend]}, ${result.mode}`));
    for (const [name, found] of Object.entries(result.maps)) {
      const [index, got, expected, counts, axes, start, shares] = found;
      if (counts.reduce((sum, count) => sum + count, 0) < 2) continue;
      box.append(make("div", { class: "maps" }, heat(name, index, got, expected, axes, start, shares), histogram(name, counts)));
    }
    if (result.leftOut) box.append(make("p", { class: "muted" }, "Left out of this page: see results.jsonl."));
    return box.children.length > 1 ? box : "";
  };
  const heat = (name, index, got, expected, axes, start, shares) => {
    const body = make("tbody");
    shares.forEach((row, y) => body.append(make("tr", {}, ...row.map((value, x) => {
      const worst = (axes[0] < 0 || index[axes[0]] === start[0] + y) && (axes[1] < 0 || index[axes[1]] === start[1] + x);
      const cell = make("td", { class: worst ? "worst" : "", title: `row ${start[0] + y}, column ${start[1] + x}: ${value}` }, share(number(value)));
      cell.style.background = colour(number(value));
      return cell;
    }))));
    const fixed = index.map((at, axis) => (axes.includes(axis) ? "·" : at));
    const caption = `${name}: error ÷ allowed at ${place(fixed)}, rows from ${start[0]}, columns from ${start[1]}. `
      + `Worst (outlined) at ${place(index)}: computed ${plain(got)}, reference ${plain(expected)}.`;
    return make("figure", {}, make("table", { class: "heat" }, body), make("figcaption", {}, caption));
  };
  const histogram = (name, counts) => {
    const bars = make("div", { class: "bars" });
    const most = Math.max(...counts);
    const text = (x) => (x >= 1e4 || x < 0.01 ? x.toExponential(0) : String(x));
    counts.forEach((count, bin) => {
      const label = bin === 0 ? "exact" : bin <= data.edges.length ? `≤ ${text(data.edges[bin - 1])}` : `> ${text(data.edges.at(-1))}`;
      const over = bin > data.edges.length || (bin > 0 && data.edges[bin - 1] > 1);
      const bar = make("div", { class: over ? "bar over" : "bar" });
      bar.style.width = `${(100 * count) / most}%`;
      bars.append(make("span", {}, label), count ? bar : make("span"), make("span", {}, String(count)));
    });
    return make("figure", { class: "histogram" }, bars, make("figcaption", {}, `${name}: entries by error ÷ allowed; striped is too much`));
  };

  // ---------------------------------------------------------------------------------------------- filters
  let shown = [];
  let drawn = 0;
  const draw = () => {
    byId("list").append(...shown.slice(drawn, drawn + AT_ONCE).map(line));
    drawn = Math.min(shown.length, drawn + AT_ONCE);
    byId("more").hidden = drawn >= shown.length;
    byId("more").textContent = `Show more (${shown.length - drawn} left)`;
  };
  const apply = (state) => {
    shown = chosen(state);
    drawn = 0;
    byId("list").replaceChildren();
    draw();
    byId("found").textContent = `${shown.length} of ${cases.length} cases${state.case ? ": one case, change any filter for others" : ""}`;
    const only = byId("list").querySelector(".open");
    if (only && shown.length === 1) only.click();
  };
  const fromAddress = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const name of fields) byId(name).value = given.get(name) || "";
    for (const name of fields) if (byId(name).selectedIndex === -1) byId(name).value = "";
    return { ...fromFields(), case: given.get("case") || "" };
  };
  const fromFields = () => ({ case: "", ...Object.fromEntries(fields.map((name) => [name, byId(name).value])) });
  const changed = () => {
    const state = fromFields();
    const address = new URLSearchParams(Object.entries(state).filter(([, value]) => value));
    history.replaceState(null, "", `#${address}`);
    apply(state);
  };
  const follow = () => {
    apply(fromAddress());
    if (location.hash.length > 1) byId("cases").scrollIntoView();
  };
  const options = { loss: data.losses, backend: data.backends, dtype: data.dtypes, status: data.statuses };
  for (const [name, values] of Object.entries(options)) byId(name).append(...values.map((value) => make("option", { value }, value)));
  for (const name of fields) byId(name).addEventListener(name === "q" ? "input" : "change", changed);
  byId("more").addEventListener("click", draw);
  byId("heads").append(make("span", {}, "case"), ...data.backends.map((name) => make("span", {}, name)));
  document.documentElement.style.setProperty("--backends", String(data.backends.length));
  byId("tools").hidden = byId("heads").hidden = false;
  addEventListener("hashchange", follow);
  follow();
})();
