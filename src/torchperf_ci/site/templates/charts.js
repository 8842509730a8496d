"use strict";
// Charts over time. Lines differ by colour, dash and marker, so that they can be told apart without colour. A chart is
// read with the mouse, or with the keyboard: arrow keys go from run to run, Enter chooses one.

const charts = (() => {
  const COLOURS = ["#4269d0", "#d95f02", "#3ca951", "#a463f2", "#0aa2c0", "#c2185b", "#9c6b4e", "#7a8699"];
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "pentagon", "star", "hexagon", "triangle-down"];
  const MOST_MARKERS = 250; // of a line; more of them only hide it
  const drawn = new Set();
  let turn = Promise.resolve();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isTouch = matchMedia("(pointer: coarse)").matches;
  dark.addEventListener("change", () => drawn.forEach((chart) => chart.draw()));

  const pick = (list, place) => list[place % list.length];
  const style = (place) => ({ colour: pick(COLOURS, place), dash: pick(DASHES, place), symbol: pick(SYMBOLS, place) });

  /** Write text for Plotly, which takes some signs for markup. */
  const plain = (words) => words.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const isNamed = (spec) => spec.lines.length > 1 || Boolean(spec.failures?.length);

  /** The height of the legend below a chart in pixels: its columns are as wide as the longest name. */
  function legendOf(element, spec) {
    if (!isNamed(spec)) return 0;
    const names = [...spec.lines.flatMap((line) => [line.name, ...(line.again?.length ? [`${line.name}, measured again`] : [])]), ...(spec.failures?.length ? ["failed"] : [])];
    const columns = Math.max(1, Math.floor((element.clientWidth - 80) / (52 + 7 * Math.max(...names.map((name) => name.length)))));
    return 20 * Math.ceil(names.length / columns) + 8;
  }

  /** The height of a chart in pixels: what is drawn keeps its own, however long the legend is. */
  const heightOf = (element, spec) => (spec.height ?? 300) + legendOf(element, spec);

  function layoutOf(element, spec) {
    const axis = { gridcolor: ink("--grid"), linecolor: ink("--grid"), zeroline: false, tickfont: { color: ink("--soft") } };
    const marks = spec.marks ?? [];
    return {
      height: heightOf(element, spec),
      margin: { l: 62, r: 12, t: marks.length ? 58 : 34, b: 40 + legendOf(element, spec) }, // the buttons are above the marks
      modebar: { bgcolor: "rgba(0,0,0,0)", color: ink("--soft"), activecolor: ink("--ink") },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink("--ink"), family: "system-ui, sans-serif", size: 12 },
      hovermode: "closest",
      hoverlabel: { bgcolor: ink("--panel"), bordercolor: ink("--soft"), font: { color: ink("--ink") }, align: "left" },
      dragmode: isTouch ? false : "zoom",
      showlegend: isNamed(spec),
      legend: { orientation: "h", x: 0, y: 0, yref: "container", yanchor: "bottom", font: { color: ink("--ink") } },
      xaxis: { ...axis, type: "date", ...(spec.range ? { range: spec.range } : {}) },
      yaxis: { ...axis, title: { text: plain(spec.unit ?? ""), font: { color: ink("--soft") } }, automargin: true },
      yaxis2: { overlaying: "y", range: [0, 1], visible: false, fixedrange: true },
      shapes: marks.map((mark) => ({
        type: "line", xref: "x", yref: "paper", x0: mark.x, x1: mark.x, y0: 0, y1: 1,
        line: { color: ink(mark.tone), width: 1.5, dash: mark.dash },
      })),
      annotations: marks.map((mark, place) => ({
        x: mark.x, y: 1, xref: "x", yref: "paper", yanchor: "bottom", xanchor: "auto", showarrow: false,
        yshift: place % 2 ? 13 : 0, text: plain(mark.text), font: { color: ink(mark.tone), size: 11 },
      })),
    };
  }

  /** Make the traces of a line: the band of its intervals, then the line itself, with one element of `run` per point. */
  function tracesOf(line, place) {
    const { colour, dash, symbol } = style(line.style ?? place);
    const traces = [];
    if (line.low?.some((value) => value !== null)) {
      const filled = line.x.map((x, at) => ({ x, low: line.low[at], high: line.high[at] })).filter(({ low, high }) => low !== null && high !== null);
      traces.push({
        x: [...filled.map(({ x }) => x), ...filled.map(({ x }) => x).reverse()],
        y: [...filled.map(({ high }) => high), ...filled.map(({ low }) => low).reverse()],
        fill: "toself", fillcolor: `${colour}2e`, line: { width: 0 }, mode: "lines", type: "scatter",
        hoverinfo: "skip", showlegend: false, name: `${plain(line.name)} interval`,
      });
    }
    const shown = line.y.filter((value) => value !== null).length;
    traces.push({
      x: line.x, y: line.y, type: "scatter", mode: shown <= MOST_MARKERS ? "lines+markers" : "lines",
      name: plain(line.name), line: { color: colour, dash, width: 1.8 }, connectgaps: true,
      marker: { color: colour, symbol, size: 7, line: { color: ink("--paper"), width: 1 } },
      hoverinfo: "text", hovertext: line.hover.map(plain), customdata: line.points,
    });
    if (line.again?.length) {
      traces.push({
        x: line.again.map(([at]) => line.x[at]), y: line.again.map(([, value]) => value), type: "scatter", mode: "markers",
        name: `${plain(line.name)}, measured again`, marker: { color: colour, symbol: `${symbol}-open`, size: 10 },
        hoverinfo: "text", hovertext: line.again.map(([at]) => `${plain(line.hover[at])}\u2003(measured again)`),
        customdata: line.again.map(([at]) => line.points[at]),
      });
    }
    return traces;
  }

  function failureTrace(failures) {
    return {
      x: failures.map((failure) => failure.x), y: failures.map(() => 0.04), yaxis: "y2", type: "scatter", mode: "markers",
      name: "failed", marker: { color: ink("--bad"), symbol: "x", size: 9 }, cliponaxis: false,
      hoverinfo: "text", hovertext: failures.map((failure) => plain(failure.hover)), customdata: failures.map((failure) => failure.point),
    };
  }

  /**
   * Draw a chart into an element once it is near what is seen, and again when colours change.
   *
   * spec: lines (name, x, y, low, high, again, hover, points), failures (x, hover, point), marks (x, text, tone, dash),
   * unit, height, range, label; onPoint is told of the point under the mouse or the keyboard's cursor,
   * onChoose of one that is chosen, onZoom of the range of time that is shown, null for all.
   */
  function show(element, spec) {
    let isDrawn = false;
    // Ranges of another chart that are being shown: not to be told to others again, or charts would chase each other.
    let following = 0;
    const traces = () => [...spec.lines.flatMap(tracesOf), ...(spec.failures?.length ? [failureTrace(spec.failures)] : [])];
    const config = {
      displaylogo: false, responsive: true, scrollZoom: false, showTips: false, displayModeBar: isTouch || "hover",
      modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
    };
    const chart = {
      /** Draw after the charts before it, one at a time, so that the first is seen while others are drawn. */
      draw() {
        turn = turn.then(() => new Promise((resolve) => setTimeout(resolve))).then(() => chart.drawNow());
        turn = turn.catch((problem) => element.replaceChildren(String(problem.message)));
      },
      async drawNow() {
        await torchperf.loadScript(torchperf.index().plotly);
        if (!element.isConnected) {
          drawn.delete(chart);
          return;
        }
        await Plotly.react(element, traces(), layoutOf(element, spec), config);
        if (!isDrawn) listen();
        isDrawn = true;
        element.dataset.drawn = "true";
      },
      async zoom(range) {
        if (String(range ?? "") === String(spec.range ?? "")) return;
        spec.range = range ?? undefined;
        if (!isDrawn) return;
        following += 1;
        try {
          await Plotly.relayout(element, range ? { "xaxis.range": [...range] } : { "xaxis.autorange": true, "yaxis.autorange": true });
        } finally {
          following -= 1;
        }
      },
    };

    function listen() {
      element.on("plotly_hover", ({ points }) => points[0].customdata && spec.onPoint?.(points[0].customdata));
      element.on("plotly_click", ({ points }) => points[0].customdata && spec.onChoose?.(points[0].customdata));
      element.on("plotly_relayout", (change) => {
        if (following) return;
        const [from, to] = [change["xaxis.range[0]"] ?? change["xaxis.range"]?.[0], change["xaxis.range[1]"] ?? change["xaxis.range"]?.[1]];
        if (from) spec.range = [from, to];
        else if (change["xaxis.autorange"]) spec.range = undefined;
        else return;
        spec.onZoom?.(spec.range ?? null);
      });
      walk(element, spec);
    }

    element.classList.add("chart");
    element.setAttribute("role", "group");
    element.setAttribute("aria-label", `${spec.label}. Arrow keys go from run to run, Enter chooses a run.`);
    element.tabIndex = 0;
    element.style.minHeight = `${heightOf(element, spec)}px`;
    new IntersectionObserver((entries, observer) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      drawn.add(chart);
      chart.draw();
    }, { rootMargin: "400px" }).observe(element);
    return chart;
  }

  /** Let the keyboard go from point to point: left and right along a line, up and down to another line. */
  function walk(element, spec) {
    const own = element.data.map((trace, curve) => ({ trace, curve })).filter(({ trace }) => trace.customdata);
    let row = 0;
    let place = -1;
    element.addEventListener("keydown", (event) => {
      const { trace, curve } = own[row] ?? {};
      if (!trace || event.target !== element) return;
      const last = trace.customdata.length - 1;
      switch (event.key) {
        case "ArrowRight": place = Math.min(last, place + 1); break;
        case "ArrowLeft": place = place < 0 ? last : Math.max(0, place - 1); break;
        case "Home": place = 0; break;
        case "End": place = last; break;
        case "ArrowDown": row = (row + 1) % own.length; place = Math.min(place, own[row].trace.customdata.length - 1); break;
        case "ArrowUp": row = (row + own.length - 1) % own.length; place = Math.min(place, own[row].trace.customdata.length - 1); break;
        case "Enter": if (place >= 0) spec.onChoose?.(trace.customdata[place]); break;
        default: return;
      }
      event.preventDefault();
      if (place < 0) return;
      Plotly.Fx.hover(element, [{ curveNumber: own[row].curve, pointNumber: place }], own[row].trace.yaxis === "y2" ? "xy2" : "xy");
      spec.onPoint?.(own[row].trace.customdata[place]);
    });
  }

  /** Draw the samples of runs as boxes, one for each set, in ms. */
  async function showSamples(element, sets) {
    await torchperf.loadScript(torchperf.index().plotly);
    if (!element.isConnected) return;
    const axis = { gridcolor: ink("--grid"), linecolor: ink("--grid"), zeroline: false, tickfont: { color: ink("--ink") } };
    await Plotly.react(element, sets.map((set, place) => ({
      type: "box", orientation: "h", name: set.names.map(plain).join("<br>"), x: set.values, boxpoints: "all", jitter: 0.6, pointpos: 0,
      marker: { color: pick(COLOURS, place), symbol: pick(SYMBOLS, place), size: 5, opacity: 0.6 },
      line: { color: pick(COLOURS, place) }, fillcolor: "rgba(0,0,0,0)", hoverinfo: "x",
    })), {
      height: 90 + 70 * sets.length, margin: { l: 20, r: 12, t: 6, b: 40 }, showlegend: false,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink("--ink"), family: "system-ui, sans-serif", size: 12 },
      xaxis: { ...axis, title: { text: "ms" } }, yaxis: { ...axis, automargin: true, autorange: "reversed" },
      hoverlabel: { bgcolor: ink("--panel"), bordercolor: ink("--soft"), font: { color: ink("--ink") } },
    }, { displaylogo: false, responsive: true, displayModeBar: false });
    element.dataset.drawn = "true";
  }

  /** Forget the charts of a page that is left. */
  function clear() {
    for (const element of document.querySelectorAll(".chart")) if (element.data) Plotly.purge(element);
    drawn.clear();
  }

  return { clear, show, showSamples };
})();
