"use strict";
// The page of a case: its state, every metric over time, the samples of a run, its parameters, all values as a table.

const casePage = (() => {
  const { make, link, table } = dom;
  const MOST_RELATIVES = 8;
  const MOST_ROWS = 200;

  const titleOf = (name) => torchperf.index().metrics[name]?.title ?? name;
  const unitOf = (name) => torchperf.index().metrics[name]?.unit ?? "";

  async function render(page, query, id) {
    const { cases } = torchperf.index();
    const each = cases.find((other) => other.id === id);
    if (!each) {
      page.append(make("h2", {}, "No such case"), make("p", {}, "It has no result in the runs that are shown. ", link("#/", "All cases")));
      return;
    }
    document.title = text.caseName(each);
    const own = torchperf.index().states.filter((state) => state.case === id);
    const telling = own.filter((state) => state.tone !== "good");
    page.append(
      make("p", { class: "path" }, link("#/", "All cases")),
      make("h2", {}, text.caseName(each), " ", make("small", {}, text.caseDetails(each))),
      make("section", { id: "states", "aria-label": "State" }, telling.length ? telling.map((state) => make("div", { class: "open" },
        make("p", {}, make("span", { class: `state ${state.tone}` }, `${state.sign} ${state.state}`), " ", make("b", {}, titleOf(state.metric)), ": ", state.text),
        overview.since(state),
        dom.commands(state.commands)))
        : make("p", {}, make("span", { class: `state ${each.tone}` }, `${each.sign} ${each.state}`))));
    const status = make("p", { class: "note", role: "status" }, "Loading …");
    page.append(status);
    const history = await torchperf.loadCase(each);
    status.remove();
    page.append(...metricSections(each, keepBranch(history, query.get("branch")), query));
  }

  /** Keep the runs of one branch; all where none is chosen. */
  function keepBranch(history, branch) {
    if (!branch) return history;
    const hidden = new Set(history.runs.filter((run) => run.branch !== branch));
    const blank = (values) => values.map((value, at) => (hidden.has(history.runs[at]) ? null : value));
    const metrics = new Map([...history.metrics].map(([name, metric]) => [name, { value: blank(metric.value), low: blank(metric.low), high: blank(metric.high),
      again: metric.again.filter(([at]) => !hidden.has(history.runs[at])) }]));
    return { ...history, metrics, failures: history.failures.filter((failure) => !hidden.has(history.runs[failure.at])) };
  }

  function metricSections(each, history, query) {
    const names = [...history.metrics.keys()].sort((one, other) => order(one) - order(other));
    const first = query.get("metric");
    if (names.includes(first)) names.unshift(...names.splice(names.indexOf(first), 1));
    const range = query.get("from") ? [query.get("from"), query.get("to")] : null;
    const shown = [];
    const zoom = (zoomed) => {
      address.choose({ from: zoomed?.[0], to: zoomed?.[1] });
      shown.forEach((chart) => chart.zoom(zoomed));
    };
    const lastRuns = (count) => () => {
      const times = history.runs.map((run) => run.time);
      zoom(count && times.length > count ? [times.at(-count), times.at(-1)] : null);
    };
    const ranges = make("div", { class: "ranges", role: "group", "aria-label": "Range of time" },
      [[30, "Last 30 runs"], [100, "Last 100"], [0, "All"]].filter(([count]) => count < history.runs.length)
        .map(([count, title]) => make("button", { type: "button", onclick: lastRuns(count) }, title)));
    const failed = failures(history);
    const charted = names.map((name, place) => {
      const detail = make("p", { class: "detail", role: "status", "aria-live": "polite" }, place ? "" : "Point at a run to see it; choose two to compare them.");
      const element = make("div", { "data-metric": name });
      shown.push(charts.show(element, {
        lines: linesOf(history, name), failures: failed, marks: marks(each, name), unit: axisUnit(name), range, label: titleOf(name),
        onPoint: (point) => detail.replaceChildren(...describe(history, name, point)),
        onChoose: (point) => picks.choose(history.runs[point.at]), onZoom: zoom,
      }));
      return make("figure", {}, make("figcaption", {}, titleOf(name), " ", make("small", {}, { higher: "higher is better", lower: "lower is better" }[torchperf.index().metrics[name]?.direction] ?? "")), element, detail);
    });
    const [main, ...others] = charted;
    return [ranges, main ?? make("p", {}, "It never passed in the runs that are shown, so that there are no numbers."), relatives(each, query), samples(each, history), values(history, names),
      others.length ? make("section", { id: "metrics" }, make("h2", {}, "All metrics"), others) : ""];
  }

  const order = (name) => {
    const place = torchperf.index().order.indexOf(name);
    return place < 0 ? Infinity : place;
  };
  const axisUnit = (name) => ({ ratio: "x", bytes: "MB", count: "" }[unitOf(name)] ?? unitOf(name));
  const scaled = (name) => (value) => (value !== null && unitOf(name) === "bytes" ? value / 1e6 : value);

  /** Make a line for every machine that the case ran on. */
  function linesOf(history, name) {
    const metric = history.metrics.get(name);
    const scale = scaled(name);
    const machines = [...new Set(history.machines)];
    return machines.map((machine, style) => {
      const at = history.runs.map((_, place) => place).filter((place) => history.machines[place] === machine && metric.value[place] !== null);
      return {
        name: machine || "machine not known", style, x: at.map((place) => history.runs[place].time),
        y: at.map((place) => scale(metric.value[place])), low: at.map((place) => scale(metric.low[place])), high: at.map((place) => scale(metric.high[place])),
        again: metric.again.filter(([place]) => at.includes(place)).map(([place, value]) => [at.indexOf(place), scale(value)]),
        hover: at.map((place) => brief(history, name, place)), points: at.map((place) => ({ at: place })),
      };
    }).filter((line) => line.points.length);
  }

  function failures(history) {
    return history.failures.map((failure) => ({
      x: history.runs[failure.at].time, point: failure,
      hover: `${failure.testing} ${failure.status}: ${failure.reason || "no reason given"}, ${text.minute(history.runs[failure.at].time)} ${text.short(history.runs[failure.at].commit)}`.slice(0, 160),
    }));
  }

  /** Mark the change points of a metric, where it was back, and acceptances. */
  function marks(each, name) {
    const { changes, states } = torchperf.index();
    const own = (list) => list.filter((item) => item.case === each.id && item.metric === name);
    const points = own(changes).map((change) => ({
      x: change.since.time, tone: `--${change.tone || "soft"}`, dash: "dash",
      text: `${change.sign} ${change.change === null ? change.state : text.change(change.change)}`,
    }));
    const back = own(changes).filter((change) => change.closed).map((change) => ({ x: change.closed, tone: "--good", dash: "dashdot", text: "✓ back" }));
    const acceptances = new Map([...own(changes), ...own(states)].filter((item) => item.acceptance).map(({ acceptance }) => [acceptance.time, acceptance]));
    const accepted = [...acceptances.values()].map(({ time, reason }) => ({ x: time, tone: "--soft", dash: "dot", text: `○ accepted: ${reason}`.slice(0, 40) }));
    return [...points, ...back, ...accepted];
  }

  const brief = (history, name, at) => {
    const metric = history.metrics.get(name);
    const run = history.runs[at];
    const ends = metric.low[at] === null ? "" : ` (${text.number(metric.low[at], unitOf(name))} to ${text.number(metric.high[at], unitOf(name))})`;
    return `${text.number(metric.value[at], unitOf(name))}${ends}, ${text.minute(run.time)} ${text.short(run.commit)} ${run.subject}`.trim().slice(0, 120);
  };

  /** Describe a point: its value or its failure, and its run. */
  function describe(history, name, point) {
    const metric = history.metrics.get(name);
    const run = history.runs[point.at];
    const value = point.status
      ? [make("b", {}, `${point.testing} ${point.status}`), point.reason ? `: ${point.reason}` : "", logLink(point, run)]
      : [make("b", {}, text.number(metric.value[point.at], unitOf(name))), metric.low[point.at] === null ? "" : ` (${text.number(metric.low[point.at], unitOf(name))} to ${text.number(metric.high[point.at], unitOf(name))})`];
    return [...value, " · ", link(address.ofWorkflow(run), text.minute(run.time)),
      run.commit ? [" · commit ", link(address.ofCommit(run), make("code", {}, text.short(run.commit)))] : "", run.subject ? ` “${run.subject}”` : "",
      run.branch ? ` · ${run.branch}` : "", ` · ${history.machines[point.at] || "machine not known"} · run ${run.key} · `,
      make("button", { type: "button", onclick: () => picks.choose(run) }, "Choose this run")].flat(9).filter((part) => part !== "" && part !== null);
  }

  /** Link to the workflow run, whose artifact has the log, and name the log. */
  const logLink = (failure, run) => (failure.log ? [" · log ", link(address.ofWorkflow(run), make("code", {}, failure.log))] : "");

  /** Show the samples of the newest run that has them, or of one that is chosen. */
  function samples(each, history) {
    const kept = new Set(torchperf.index().sampled);
    const runs = history.runs.filter((run) => kept.has(run.id)).reverse();
    if (!runs.length) return "";
    const element = make("div", { id: "samples-chart" });
    const note = make("p", { class: "note", role: "status" });
    const select = (label, chosen) => make("label", {}, label, " ", make("select", { onchange: draw }, make("option", { value: "" }, "–"),
      runs.map((run) => make("option", { value: run.id, selected: run === chosen }, `${text.minute(run.time)} ${text.short(run.commit)}`))));
    const fields = [select("Samples of", runs[0]), select("beside", null)];
    async function draw() {
      const sets = [];
      for (const field of fields) {
        const run = runs.find((other) => other.id === field.querySelector("select").value);
        if (!run) continue;
        const held = (await torchperf.load(`${run.month.name}/samples-${run.id}`, run.month.version))[each.id] ?? {};
        for (const [arm, times] of Object.entries(held)) sets.push({ names: [arm, text.day(run.time), text.short(run.commit)], values: times });
      }
      note.textContent = sets.length ? `${sets.map((set) => text.count(set.values.length, "sample")).join(", ")}; the box is the middle half.` : "These runs kept no samples of this case.";
      if (sets.length) await charts.showSamples(element, sets);
    }
    const section = make("details", { id: "samples", ontoggle: () => section.open && draw() }, make("summary", {}, "Samples of a run"),
      make("p", { class: "filters" }, fields), element, note,
      make("p", { class: "note" }, `The newest ${text.count(kept.size, "run")} have their samples here; the history has all of them.`));
    return section;
  }

  function values(history, names) {
    const rows = history.runs.map((run, at) => ({ run, at })).reverse().slice(0, MOST_ROWS);
    const failed = new Map();
    for (const failure of history.failures) failed.set(failure.at, [...(failed.get(failure.at) ?? []), failure]);
    const shown = names.slice(0, 8);
    const section = make("details", { id: "values", ontoggle: () => {
      if (section.open && section.childElementCount < 2) section.append(table(["When", "Commit", "Machine", "Status", ...shown.map(titleOf)], rows.map(({ run, at }) => [
        link(address.ofWorkflow(run), text.minute(run.time)), link(address.ofCommit(run), make("code", {}, text.short(run.commit))), history.machines[at],
        failed.has(at) ? failed.get(at).map((failure) => make("span", {}, make("span", { class: "state bad" }, `✗ ${failure.testing} ${failure.status}`), " ", failure.reason, logLink(failure, run), " ")) : "✓ pass",
        ...shown.map((name) => ({ number: text.number(history.metrics.get(name).value[at], unitOf(name)) }))]), { "aria-label": "Values" }));
    } }, make("summary", {}, `All values as a table${history.runs.length > MOST_ROWS ? `, the newest ${MOST_ROWS} runs` : ""}`));
    return section;
  }

  /** Show cases that differ in their parameters alone as a family of lines. */
  function relatives(each, query) {
    const own = text.family(each.model);
    if (!own) return "";
    const same = ["suite", "mode", "dtype", "device", "compiler"];
    const all = torchperf.index().cases.filter((other) => same.every((name) => other[name] === each[name]) && text.family(other.model)?.base === own.base)
      .sort((one, other) => one.model.localeCompare(other.model, "en", { numeric: true }));
    if (all.length < 2) return "";
    const place = Math.max(0, Math.min(all.indexOf(each) - MOST_RELATIVES / 2, all.length - MOST_RELATIVES));
    const shown = all.slice(place, place + MOST_RELATIVES);
    const element = make("div");
    const section = make("section", { id: "family" }, make("h2", {}, `${own.base} by parameters`),
      make("p", { class: "note" }, shown.length < all.length ? `${shown.length} of ${all.length}, those around this one: ` : "", all.map((other) => [link(address.ofCase(other.id), text.family(other.model).parameters), " "])), element);
    Promise.all(shown.map(torchperf.loadCase)).then((histories) => {
      const name = query.get("metric") ?? ["speedup", "abs_latency"].find((known) => histories.some((history) => history.metrics.has(known))) ?? [...histories[0].metrics.keys()][0];
      const lines = histories.map((history, style) => ({ history, style, metric: history.metrics.get(name) })).filter(({ metric }) => metric).map(({ history, style, metric }) => ({
        name: text.family(shown[style].model).parameters, style, x: history.runs.map((run) => run.time), y: metric.value.map(scaled(name)),
        hover: history.runs.map((_, at) => `${text.family(shown[style].model).parameters}: ${brief(history, name, at)}`), points: history.runs,
      }));
      section.querySelector("h2").append(" ", make("small", {}, titleOf(name)));
      charts.show(element, { lines, unit: axisUnit(name), label: `${own.base}, ${titleOf(name)}`, onChoose: picks.choose });
    }, (problem) => element.append(problem.message));
    return section;
  }

  return { render };
})();
