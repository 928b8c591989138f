"use strict";
(() => {
  const report = JSON.parse(document.getElementById("report").textContent);
  const every = report.intervalSeconds;
  const tracks = [{ name: "all", of: report.total }, ...report.operations.map((o) => ({ name: o.operation, of: o }))];
  const span = Math.max(report.seconds, every);
  const start = Date.parse(report.started);
  const events = (report.events || []).map((e) => Math.min(Math.max((Date.parse(e.time) - start) / 1000, 0), span));

  // rate returns per-second values; a last interval that was cut short says little.
  const rate = (name) => (s, i, all) => {
    const length = i === all.length - 1 ? span - i * every : every;
    return length < every / 2 ? null : s[name] / Math.min(length, every);
  };
  const latency = (name) => (s) => s[name] || null;
  const charts = [
    { title: "Throughput per second", height: 150, format: number, series: [
      { name: "succeeded", color: "--ok", value: rate("ok") }] },
    { title: "Latency of what ended", height: 210, log: true, format: milliseconds, series: [
      { name: "max", color: "--max", value: latency("maxMs") },
      { name: "p99", color: "--p99", value: latency("p99Ms") },
      { name: "p50", color: "--p50", value: latency("p50Ms") }] },
    { title: "Errors per second", height: 110, format: number, least: 1, series: [
      { name: "conflicts", color: "--conflict", value: rate("conflicts") },
      { name: "failed", color: "--failed", value: rate("failed") }] },
  ];

  function number(v) {
    if (v === 0) return "0";
    if (v < 10) return String(Number(v.toPrecision(2)));
    return Math.round(v).toString().replace(/\B(?=(\d{3})+$)/g, ",");
  }
  function milliseconds(v) {
    if (v < 1) return `${Math.round(v * 1000)} µs`;
    if (v < 1000) return `${Number(v.toPrecision(v < 100 ? 2 : 3))} ms`;
    return `${Number((v / 1000).toPrecision(3))} s`;
  }
  function clock(s) {
    if (span < 180) return `${Number(s.toFixed(every < 1 ? 2 : 0))} s`;
    const h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60, rest = Math.floor(s % 60);
    const two = (n) => String(n).padStart(2, "0");
    return h ? `${h}:${two(m)}:${two(rest)}` : `${m}:${two(rest)}`;
  }

  // steps returns round values from 0 to at least top, about n of them.
  function steps(top, n, units) {
    const raw = top / n, ten = 10 ** Math.floor(Math.log10(raw));
    const step = (units || [1, 2, 5, 10].map((f) => f * ten)).find((s) => s >= raw) || raw;
    const out = [];
    for (let v = 0; v < top + step * 0.999; v += step) out.push(v);
    return out;
  }
  const timeUnits = [0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 172800];

  function el(name, attributes, parent, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  }

  // scaleOf returns where values of a chart lie, and which ones to mark.
  function scaleOf(chart, rows, top, bottom) {
    const values = chart.series.flatMap((s) => rows.map(s.value)).filter((v) => v !== null);
    if (!chart.log) {
      const marks = steps(Math.max(...values, chart.least || 0) || 1, 3);
      const high = marks[marks.length - 1];
      return { marks, y: (v) => bottom - (v / high) * (bottom - top) };
    }
    const low = Math.floor(Math.log10(Math.min(...values, 1))), high = Math.ceil(Math.log10(Math.max(...values, 10)));
    const marks = [];
    for (let e = low; e <= high; e++) marks.push(10 ** e);
    return { marks, y: (v) => bottom - ((Math.log10(v) - low) / (high - low)) * (bottom - top) };
  }

  // path returns the line through the values that there are.
  function path(values, x, y) {
    let d = "", pen = false;
    values.forEach((v, i) => {
      if (v === null) { pen = false; return; }
      const alone = !pen && (values[i + 1] === null || values[i + 1] === undefined);
      d += `${pen ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}${alone ? "h.01" : ""}`;
      pen = true;
    });
    return d;
  }

  const holder = document.getElementById("charts"), at = document.getElementById("at");
  let chosen = tracks[0], drawn = [];

  function draw() {
    const rows = chosen.of.series || [];
    const width = holder.clientWidth, left = 52, right = width - 8;
    const place = (s) => left + (s / span) * (right - left);
    const x = (i) => place(Math.min((i + 0.5) * every, span));
    holder.replaceChildren();
    drawn = charts.map((chart, index) => {
      const flags = index === 0 && events.length ? 16 : 0;
      const top = 8 + flags, bottom = chart.height - 20;
      const figure = document.createElement("figure");
      const caption = document.createElement("figcaption");
      caption.innerHTML = "<b></b>";
      caption.firstChild.textContent = chart.title;
      const keys = chart.series.map((s) => {
        const key = document.createElement("span");
        key.className = "key";
        key.innerHTML = "<i></i><em></em><span></span>";
        key.children[0].style.borderColor = `var(${s.color})`;
        key.children[1].textContent = s.name;
        key.children[1].style.fontStyle = "normal";
        caption.append(key);
        return key.children[2];
      });
      const svg = el("svg", { viewBox: `0 0 ${width} ${chart.height}`, height: chart.height, role: "img", "aria-label": `${chart.title}, ${chosen.name}` });
      const scale = scaleOf(chart, rows, top, bottom);
      for (const mark of scale.marks) {
        const y = scale.y(mark);
        el("line", { class: mark === scale.marks[0] ? "base" : "grid", x1: left, x2: right, y1: y, y2: y }, svg);
        el("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, svg, chart.format(mark));
      }
      for (const s of steps(span, Math.max(2, Math.floor(width / 110)), timeUnits)) {
        if (s <= span && place(s) < right - 10) el("text", { x: place(s), y: bottom + 15, "text-anchor": s === 0 ? "start" : "middle" }, svg, clock(s));
      }
      mark(svg, place, top - flags, bottom, flags > 0);
      const values = chart.series.map((s) => rows.map(s.value));
      chart.series.forEach((s, i) => el("path", { class: "series", d: path(values[i], x, scale.y), style: `stroke:var(${s.color})` }, svg));
      const cursor = el("line", { class: "cursor", y1: top, y2: bottom, visibility: "hidden" }, svg);
      figure.append(caption, svg);
      holder.append(figure);
      svg.addEventListener("pointermove", (e) => point(e.clientX - svg.getBoundingClientRect().left));
      svg.addEventListener("pointerdown", (e) => point(e.clientX - svg.getBoundingClientRect().left));
      svg.addEventListener("pointerleave", () => point(null));
      return { cursor, keys, values, format: chart.format };
    });

    // point shows the values at a place of all charts, or no place.
    function point(px) {
      const i = px === null ? -1 : Math.min(Math.max(Math.floor(((px - left) / (right - left)) * span / every), 0), rows.length - 1);
      for (const c of drawn) {
        c.cursor.setAttribute("visibility", i < 0 ? "hidden" : "visible");
        if (i >= 0) { c.cursor.setAttribute("x1", x(i)); c.cursor.setAttribute("x2", x(i)); }
        c.keys.forEach((k, n) => {
          const v = i < 0 ? undefined : c.values[n][i];
          k.textContent = v === undefined ? "" : v === null ? "–" : c.format(v);
        });
      }
      at.textContent = i < 0 ? "" : `${clock(i * every)} to ${clock(Math.min((i + 1) * every, span))}`;
    }
  }

  // mark draws the events; their numbers where they have room.
  function mark(svg, place, top, bottom, numbered) {
    let free = -Infinity;
    events.forEach((s, i) => {
      const x = place(s);
      el("line", { class: "event", x1: x, x2: x, y1: top, y2: bottom }, svg);
      if (!numbered || x - 8 < free) return;
      const flag = el("g", { class: "flag" }, svg), text = String(i + 1), w = 8 + 6 * text.length;
      el("rect", { x: x - w / 2, y: top, width: w, height: 13, rx: 3 }, flag);
      el("text", { x, y: top + 10, "text-anchor": "middle" }, flag, text);
      free = x + w / 2 + 2;
    });
  }

  const pick = document.getElementById("pick");
  for (const t of tracks) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = t.name;
    button.setAttribute("aria-pressed", String(t === chosen));
    button.addEventListener("click", () => {
      chosen = t;
      for (const b of pick.children) b.setAttribute("aria-pressed", String(b === button));
      draw();
    });
    pick.append(button);
  }
  new ResizeObserver(draw).observe(holder);
})();
