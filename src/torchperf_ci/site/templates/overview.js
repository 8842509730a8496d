"use strict";
// The first page: what is open, the summary numbers over time, all cases, the newest changes and runs.

const overview = (() => {
  const { make, link, table } = dom;
  const FILTERS = ["suite", "mode", "dtype", "device", "compiler"];
  const NUMBERS = [
    { name: "geomean", title: "Geometric mean speedup", unit: "x", note: "of passing models; a slowdown counts as 1x" },
    { name: "passed", title: "Pass rate", unit: "%", note: "of the models that could be judged" },
    { name: "compile", title: "Mean compilation time", unit: "s", note: "of passing models" },
    { name: "memory", title: "Memory compression", unit: "x", note: "eager's peak memory over the compiled model's; more is better" },
  ];
  const MOST_CASES = 100;

  const isChosen = (of, query) => FILTERS.every((name) => !query.get(name) || of[name] === query.get(name));
  const matches = (of, words) => words.every((word) => of.search.includes(word));

  function render(page, query) {
    const { cases, states, title, newest } = torchperf.index();
    const of = new Map(cases.map((each) => [each.id, each]));
    for (const each of cases) each.search ??= `${text.caseName(each)} ${text.caseDetails(each)} ${each.state}`.toLowerCase();
    const chosen = (id) => of.has(id) && isChosen(of.get(id), query);
    const onBranch = (run) => !query.get("branch") || !run || run.branch === query.get("branch");
    const open = states.filter((state) => state.open && chosen(state.case) && onBranch(state.since));
    document.title = title;
    page.append(
      filters(query),
      make("section", { id: "open", "aria-labelledby": "open-title" },
        make("h2", { id: "open-title" }, open.length ? `Open now: ${text.count(new Set(open.map((state) => state.case)).size, "case")}` : "Nothing is open"),
        open.length ? make("p", { class: "note" }, "Open until it is back where it was, or accepted.")
          : make("p", { class: "note" }, newest ? `As of the run of ${text.minute(newest.time)}.` : ""),
        openCases(open, of)),
      make("section", {}, make("h2", {}, "Over time"), trends(query)),
      caseList(query, of),
      make("section", {}, make("h2", {}, "Changes"), changes(torchperf.index().changes.filter((each) => chosen(each.case) && onBranch(each.since)), of)),
      make("section", {}, make("h2", {}, "Runs"), runList(query)),
    );
  }

  function filters(query) {
    const { cases, branches } = torchperf.index();
    const choice = (name, values) => {
      if (values.length < 2 && !query.get(name)) return null;
      const known = [...new Set([...values, query.get(name)].filter(Boolean))].sort();
      const options = [["", "all"], ...known.map((value) => [value, value])];
      return dom.choice(name, `${name[0].toUpperCase()}${name.slice(1)}`, options, query.get(name));
    };
    const form = make("form", { class: "filters", "aria-label": "Filters", onsubmit: (event) => event.preventDefault() },
      FILTERS.map((name) => choice(name, [...new Set(cases.map((each) => each[name]))])), choice("branch", branches));
    return form.childElementCount ? form : "";
  }

  function openCases(open, of) {
    const groups = new Map();
    for (const state of open) {
      const key = `${state.case} ${state.since?.id ?? ""}`;
      groups.set(key, [...(groups.get(key) ?? []), state]);
    }
    return [...groups.values()].map((states) => openCase(of.get(states[0].case), states));
  }

  function openCase(each, states) {
    const [first] = states;
    return make("article", { class: "open" },
      make("h3", {}, link(address.ofCase(each.id, { metric: first.metric }), text.caseName(each)), " ", make("small", {}, text.caseDetails(each))),
      make("ul", {}, states.map((state) => make("li", {}, make("span", { class: `state ${state.tone}` }, `${state.sign} ${state.state}`), ` ${torchperf.index().metrics[state.metric]?.title ?? state.metric}: ${state.text}`))),
      since(first),
      states.some(({ owners }) => owners.length) ? make("p", { class: "since" }, `Owner: ${[...new Set(states.flatMap(({ owners }) => owners))].map((name) => `@${name}`).join(", ")}`) : null,
      dom.commands(first.commands));
  }

  /** Say since when and since which commit, with links to both. */
  function since(state) {
    if (!state.since) return "";
    const range = state.good ? address.ofRange(state.good, state.since) : "";
    return make("div", { class: "since" }, "Since ", link(address.ofWorkflow(state.since), text.minute(state.since.time)),
      state.since.commit ? [", commit ", link(address.ofCommit(state.since), make("code", {}, text.short(state.since.commit)))] : "",
      state.since.subject ? ` “${state.since.subject}”` : "",
      state.good ? [". Last good: ", text.minute(state.good.time), state.good.commit ? [", ", link(address.ofCommit(state.good), make("code", {}, text.short(state.good.commit)))] : "",
        range ? [" (", link(range, "the commits between them"), ")"] : ""] : "",
      state.good ? [" · ", link(address.ofRuns(state.good.id, state.since.id), "compare the two runs")] : "",
      state.range ? commitsOf(state) : "");
  }

  /** List the commits between the last good run and the first bad one, where they are known. */
  function commitsOf({ range, since }) {
    const line = (each) => [link(address.ofCommit({ ...since, ...each }), make("code", {}, text.short(each.commit))), ` ${each.subject}`];
    if (range.commits.length === 1) return make("span", { class: "commits" }, "The one commit between them: ", line(range.commits[0]));
    const title = `${text.count(range.count, "commit")} between them`;
    if (!range.commits.length) return make("span", { class: "commits" }, title);
    return make("details", { class: "commits" }, make("summary", {}, title), make("ul", {}, range.commits.map((each) => make("li", {}, line(each)))));
  }

  function trends(query) {
    const section = make("div", { class: "charts" }, make("p", { class: "note", role: "status" }, "Loading …"));
    const range = query.get("from") ? [query.get("from"), query.get("to")] : null;
    torchperf.loadMonths().then((months) => {
      const lines = collectLines(months, query);
      if (!lines.length) return section.replaceChildren(make("p", { class: "note" }, "No run has these."));
      const shown = [];
      section.replaceChildren(...NUMBERS.map((number) => {
        const own = lines.map((line, place) => ({ ...line, y: line[number.name], style: place,
          hover: line.points.map((run, at) => `${line.name}: ${text.digits(line[number.name][at] ?? 0)} ${number.unit}, ${text.minute(run.time)} ${text.short(run.commit)} ${run.subject}`) }))
          .filter((line) => line.y.some((value) => value !== null));
        if (!own.length) return "";
        const element = make("div");
        shown.push(charts.show(element, { lines: own, unit: number.unit, height: 220, range, label: number.title, onChoose: picks.choose,
          onZoom: (zoomed) => {
            address.choose({ from: zoomed?.[0], to: zoomed?.[1] });
            shown.forEach((chart) => chart.zoom(zoomed));
          } }));
        return make("figure", {}, make("figcaption", {}, number.title, " ", make("small", {}, number.note)), element);
      }));
    }, (problem) => section.replaceChildren(make("p", { class: "problem" }, problem.message)));
    return section;
  }

  /** Collect a line for every suite and compiler, and for whatever else tells apart what is chosen. */
  function collectLines(months, query) {
    const lines = new Map();
    const branch = query.get("branch");
    for (const month of months) {
      for (const [place, groupPlace, ...numbers] of month.trends) {
        const [run, group] = [month.runs[place], month.groups[groupPlace]];
        if (!isChosen(group, query) || (branch && run.branch !== branch)) continue;
        const key = JSON.stringify(group);
        if (!lines.has(key)) lines.set(key, { group, points: [], x: [], ...Object.fromEntries(NUMBERS.map(({ name }) => [name, []])) });
        const line = lines.get(key);
        line.points.push(run);
        line.x.push(run.time);
        NUMBERS.forEach(({ name }, at) => line[name].push(numbers[at]));
      }
    }
    const all = [...lines.values()].sort((one, other) => JSON.stringify(one.group).localeCompare(JSON.stringify(other.group)));
    const telling = FILTERS.filter((name) => new Set(all.map((line) => line.group[name])).size > 1);
    for (const line of all) line.name = (telling.length ? telling : ["suite", "compiler"]).map((name) => line.group[name]).join(" · ");
    return all;
  }

  function caseList(query, of) {
    const box = make("input", { type: "search", id: "search", value: query.get("q") ?? "", placeholder: "Words of a name, a compiler, a state …", autocomplete: "off" });
    const list = make("div");
    let all = false;
    const refresh = () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      const found = [...of.values()].filter((each) => isChosen(each, query) && matches(each, words));
      const shown = all ? found : found.slice(0, MOST_CASES);
      list.replaceChildren(
        make("p", { class: "note", role: "status" }, `${text.count(found.length, "case")}${found.length > shown.length ? `, the first ${shown.length} shown` : ""}`),
        found.length ? table(["Case", "Compiler", "Mode", "dtype", "Device", "State", "Newest", ""], shown.map((each) => [
          link(address.ofCase(each.id), text.caseName(each)), each.compiler, each.mode, each.dtype, each.device,
          make("span", { class: `state ${each.tone}` }, `${each.sign} ${each.state}`),
          { number: each.newest ? text.number(each.newest.value, each.newest.unit) : "–" }, each.newest?.title ?? ""]), { "aria-label": "Cases" }) : "",
        found.length > shown.length ? make("button", { type: "button", onclick: () => {
          all = true;
          refresh();
        } }, "Show all") : "");
    };
    box.addEventListener("input", () => {
      address.choose({ q: box.value });
      refresh();
    });
    refresh();
    return make("section", { id: "cases" }, make("h2", {}, "Cases"), make("label", { for: "search" }, "Search "), box, list);
  }

  function changes(list, of) {
    const feed = make("p", { class: "note" }, "Also as a ", make("a", { class: "feed" }, "feed"), " for a feed reader.");
    feed.querySelector("a").setAttribute("href", "feed.xml");
    if (!list.length) return [make("p", { class: "note" }, "No lasting change in the runs that are shown."), feed];
    return [feed, table(["When", "Case", "Metric", "From", "To", "Change", "Commit"], list.slice(0, 50).map((each) => [
      text.day(each.since.time),
      [link(address.ofCase(each.case, { metric: each.metric }), text.caseName(of.get(each.case))), " ", make("small", {}, text.caseDetails(of.get(each.case)))],
      torchperf.index().metrics[each.metric]?.title ?? each.metric,
      { number: text.number(each.old, torchperf.index().metrics[each.metric]?.unit) },
      { number: text.number(each.new, torchperf.index().metrics[each.metric]?.unit) },
      { number: make("span", { class: `state ${each.tone}` }, each.change === null ? each.state : `${each.sign} ${text.change(each.change)}`) },
      link(address.ofCommit(each.since), make("code", {}, text.short(each.since.commit)))]), { "aria-label": "Changes" })];
  }

  function runList(query) {
    const section = make("div");
    torchperf.loadMonths().then((months) => {
      const branch = query.get("branch");
      const runs = months.flatMap((month) => month.runs).filter((run) => !branch || run.branch === branch).reverse();
      const [head, base] = [runs[0], runs[1]];
      section.replaceChildren(
        base ? make("p", {}, link(address.ofRuns(base.id, head.id), "Compare any two runs"), ", or choose two points of a chart.") : "",
        table(["When", "Commit", "", "Branch", "Machine", "Passed"], runs.slice(0, 30).map((run) => [
          link(address.ofWorkflow(run), text.minute(run.time)), link(address.ofCommit(run), make("code", {}, text.short(run.commit))), run.subject,
          run.branch, run.machines.join(", "), { number: `${run.passed}/${run.total}` }]), { "aria-label": "Runs" }));
    }, (problem) => section.replaceChildren(make("p", { class: "problem" }, problem.message)));
    return section;
  }

  return { render, since };
})();
