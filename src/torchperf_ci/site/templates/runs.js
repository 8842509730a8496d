"use strict";
// Two runs: chosen anywhere on the site, and side by side with what differs in their environments.

/** The runs that are chosen: two of them can be compared. */
const picks = (() => {
  const { make, link } = dom;
  let chosen = [];

  function choose(run) {
    chosen = chosen.some((other) => other.id === run.id) ? chosen.filter((other) => other.id !== run.id) : [...chosen, run].slice(-2);
    render();
  }

  function render() {
    const bar = document.getElementById("picks");
    bar.hidden = !chosen.length;
    const [base, head] = [...chosen].sort((one, other) => one.time.localeCompare(other.time));
    const name = (run) => `${text.minute(run.time)} ${text.short(run.commit)}`.trim();
    bar.replaceChildren(...(head
      ? [link(address.ofRuns(base.id, head.id), "Compare these two runs"), ` ${name(base)} and ${name(head)} `]
      : base ? [`Chosen: ${name(base)}. Choose another run to compare the two. `] : []),
    make("button", { type: "button", onclick: clear }, "Clear"));
  }

  function clear() {
    chosen = [];
    render();
  }

  return { choose, clear };
})();

const runsPage = (() => {
  const { make, link, table } = dom;

  async function render(page, query) {
    document.title = `Two runs – ${torchperf.index().title}`;
    page.append(make("p", { class: "path" }, link("#/", "All cases")), make("h2", {}, "Two runs side by side"));
    const status = make("p", { class: "note", role: "status" }, "Loading …");
    page.append(status);
    const runs = (await torchperf.loadMonths()).flatMap((month) => month.runs).reverse();
    status.remove();
    const base = runs.find((run) => run.id === query.get("base")) ?? runs[1];
    const head = runs.find((run) => run.id === query.get("head")) ?? runs[0];
    const missing = ["base", "head"].filter((side) => query.get(side) && !runs.some((run) => run.id === query.get(side)));
    if (missing.length) page.append(make("p", { class: "problem" }, `The ${missing.join(" and ")} run of this address is not among the runs that are shown; another one stands in its place.`));
    const options = runs.map((run) => [run.id, `${text.minute(run.time)} ${text.short(run.commit)} ${run.branch}`]);
    page.append(make("form", { class: "filters", "aria-label": "Runs", onsubmit: (event) => event.preventDefault() },
      dom.choice("base", "Base", options, base?.id), dom.choice("head", "Head", options, head?.id)));
    if (!base || !head) return;
    const [before, after] = await Promise.all([base, head].map((run) => torchperf.load(`${run.month.name}/run-${run.id}`, run.month.version)));
    const range = address.ofRange(base, head);
    page.append(
      make("p", {}, commit("Base", base), " · ", commit("Head", head), range ? [" · ", link(range, "the commits between them")] : ""),
      make("section", { id: "environment" }, make("h3", {}, "Environment"), ...environments(before, after)),
      make("section", { id: "comparison" }, make("h3", {}, "Results"), comparison(before, after, query)));
  }

  const commit = (title, run) => make("span", {}, `${title}: `, link(address.ofWorkflow(run), text.minute(run.time)), run.commit ? [", ", link(address.ofCommit(run), make("code", {}, text.short(run.commit)))] : "", run.subject ? ` “${run.subject}”` : "");

  /** Show what differs: every field, with all of its values on both sides. */
  function environments(before, after) {
    const valuesOf = (run, name) => [...new Set(run.environments.map((environment) => String(environment[name] ?? "–")))].sort().join(", ");
    const names = [...new Set([...before.environments, ...after.environments].flatMap(Object.keys))];
    const differing = names.map((name) => [name, valuesOf(before, name), valuesOf(after, name)]).filter(([, one, other]) => one !== other);
    if (!names.length) return [make("p", {}, "Neither run recorded its environment.")];
    if (!differing.length) return [make("p", {}, "✓ Nothing differs in what was recorded of machine and Python.")];
    return [make("p", {}, `! ${text.count(differing.length, "difference")}. Numbers of different machines cannot be compared as they are.`),
      table(["What", "Base", "Head"], differing, { "aria-label": "Environment" })];
  }

  function comparison(before, after, query) {
    const { cases, metrics, order } = torchperf.index();
    const of = new Map(cases.map((each) => [each.id, each]));
    const held = [...new Set([before, after].flatMap((run) => Object.values(run.cases)).flatMap((each) => Object.keys(each.values)))];
    const names = order.filter((name) => held.includes(name));
    const metric = names.includes(query.get("metric")) ? query.get("metric") : names[0];
    const rows = [...new Set([...Object.keys(before.cases), ...Object.keys(after.cases)])].filter((id) => of.has(id))
      .map((id) => compareCase(of.get(id), before.cases[id], after.cases[id], metric)).sort((one, other) => other.weight - one.weight);
    const worse = rows.filter((row) => row.tone === "bad").length;
    const better = rows.filter((row) => row.tone === "good").length;
    return [make("p", { class: "filters" }, dom.choice("metric", "Metric", names.map((name) => [name, metrics[name].title]), metric)),
      make("p", { class: "note" }, `${text.count(rows.length, "case")}: ${worse} worse, ${better} better. A change counts when the intervals do not overlap, or, without intervals, from 2 % on.`),
      table(["Case", "Base", "Head", "Change", "Status"], rows.map((row) => [
        [link(address.ofCase(row.each.id, { metric }), text.caseName(row.each)), " ", make("small", {}, text.caseDetails(row.each))],
        { number: text.number(row.old, metrics[metric]?.unit) }, { number: text.number(row.new, metrics[metric]?.unit) },
        { number: make("span", { class: row.tone ? `state ${row.tone}` : null }, row.change === null ? "–" : `${row.sign} ${text.change(row.change)}`) },
        row.status]), { "aria-label": "Comparison" })];
  }

  /** Compare a case's metric and its statuses; what changed weighs more, and stands further up. */
  function compareCase(each, before, after, metric) {
    const [one, other] = [before, after].map((side) => (side && Object.hasOwn(side.values, metric) ? side.values[metric] : null));
    const [old, now] = [one, other].map((side) => (Array.isArray(side) ? side[0] : side));
    const change = old && now !== null ? now / old - 1 : null;
    const overlap = Array.isArray(one) && Array.isArray(other) ? one[1] <= other[2] && other[1] <= one[2] : Math.abs(change) < 0.02;
    const direction = torchperf.index().metrics[metric]?.direction;
    const isTold = change !== null && !overlap && (direction === "higher" || direction === "lower");
    const isWorse = isTold && (change < 0) === (direction === "higher");
    const words = (side) => (side ? Object.entries(side.status).map(([testing, status]) => `${testing} ${status}`).join(", ") : "not run");
    const [was, is] = [words(before), words(after)];
    return {
      each, old, new: now, change, tone: isTold ? (isWorse ? "bad" : "good") : "", sign: isTold ? (isWorse ? "✗" : "✓") : "",
      status: was === is ? is : make("b", {}, `${was} → ${is}`),
      weight: (was === is ? 0 : 1000) + (isTold ? 100 : 0) + Math.min(50, Math.abs(change ?? 0)),
    };
  }

  return { render };
})();
