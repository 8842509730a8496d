"use strict";
// Elements, texts and addresses. Whatever comes from data becomes text, never markup.

const dom = (() => {
  const LINK = /^(https?:\/\/|#\/)/;

  /** Make an element. Attributes that are null or false are left out; children are elements or texts. */
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (name === "href" && !LINK.test(value)) continue;
      else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
    return element;
  }

  const link = (href, ...children) => (LINK.test(href) ? make("a", { href }, ...children) : make("span", {}, ...children));

  /** Make a table of rows of cells; a cell is a text, an element, or {number: text}. */
  function table(titles, rows, attributes = {}) {
    const cell = (tag, content) => {
      const isNumber = content !== null && typeof content === "object" && "number" in content;
      return make(tag, { class: isNumber ? "n" : null }, isNumber ? content.number : content);
    };
    return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": attributes["aria-label"] ?? "Table" },
      make("table", {},
        make("thead", {}, make("tr", {}, titles.map((title) => cell("th", title)))),
        make("tbody", {}, rows.map((cells) => make("tr", {}, cells.map((content) => cell("td", content)))))));
  }

  /** Make a field to choose by; options are pairs of value and text. What is chosen goes into the address and is shown. */
  function choice(name, label, options, chosen) {
    const select = make("select", { name, onchange: () => {
      address.choose({ [name]: select.value });
      pages.show();
    } }, options.map(([value, words]) => make("option", { value, selected: value === chosen }, words)));
    return make("label", {}, label, " ", select);
  }

  /** Fold commands with their titles, if there are any. */
  const commands = (list) => (list.length ? make("details", {}, make("summary", {}, "Commands"),
    list.map((each) => [make("p", { class: "note" }, each.title), command(each.command)])) : null);

  /** Make a command that can be copied. */
  function command(text) {
    const button = make("button", { type: "button", class: "copy" }, "Copy");
    const code = make("code", {}, text);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code); // where the browser allows no more, it is one key press
        button.textContent = "Selected";
      }
    });
    return make("div", { class: "command" }, code, button);
  }

  return { choice, commands, link, make, table };
})();

const text = (() => {
  const day = (time) => time.slice(0, 10);
  const minute = (time) => `${time.slice(0, 16).replace("T", " ")} UTC`;
  const short = (commit) => commit.slice(0, 10);
  const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

  function digits(value) {
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 1e9 || size < 1e-6) return value.toExponential(2);
    return size >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(4)));
  }

  /** Write a number of a metric with its unit. */
  function number(value, unit) {
    if (value === null || value === undefined) return "–";
    if (unit === "ratio") return `${value.toFixed(3)}x`;
    if (unit === "bytes") return value >= 1e9 ? `${digits(value / 1e9)} GB` : `${digits(value / 1e6)} MB`;
    return unit && unit !== "count" ? `${digits(value)} ${unit}` : digits(value);
  }

  /** Write a change as a share: +4.0 %. */
  const change = (share) => `${share < 0 ? "−" : "+"}${(Math.abs(share) * 100).toFixed(1)} %`;

  const caseName = (of) => `${of.suite}/${of.model}`;
  const caseDetails = (of) => [of.compiler, of.mode, of.dtype, of.device].join(" · ");

  /** Take a model's name apart into its base and its parameters, as in matmul[n=128,dtype=float32]. */
  function family(model) {
    const match = /^([^[]+)\[(.+)\]$/.exec(model);
    return match ? { base: match[1], parameters: match[2] } : null;
  }

  return { caseDetails, caseName, change, count, day, digits, family, minute, number, short };
})();

const address = (() => {
  /** Read the page, its id and what is chosen from the part behind the # sign. */
  function read() {
    const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
    const [page, id] = path.split("/");
    return { page, id: id ?? "", query: new URLSearchParams(query ?? "") };
  }

  /** Write an address of a page of this site; choices that are empty are left out. */
  function write(path, choices = {}) {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(choices)) if (value) query.set(name, value);
    return `#/${path}${query.size ? `?${query}` : ""}`;
  }

  /** Change choices in the address of this page, without a new entry in the browser's history. */
  function choose(choices) {
    const { page, id, query } = read();
    const path = id ? `${page}/${id}` : page;
    history.replaceState(null, "", write(path, { ...Object.fromEntries(query), ...choices }));
  }

  const ofCase = (id, choices) => write(`case/${id}`, choices);
  const ofRuns = (base, head, choices) => write("runs", { base, head, ...choices });

  /** Write the address of a commit, of a range of commits, or of a workflow run on GitHub; blank where it is not known. */
  const server = () => torchperf.index().server;
  const repository = (run) => (run.repository ? `${server()}/${run.repository}` : "");
  const ofCommit = (run) => (repository(run) && run.commit ? `${repository(run)}/commit/${run.commit}` : "");
  const ofRange = (before, after) => (repository(after) && before.commit && after.commit && before.commit !== after.commit
    ? `${repository(after)}/compare/${before.commit}...${after.commit}` : "");
  const ofWorkflow = (run) => (repository(run) && run.workflow_run ? `${repository(run)}/actions/runs/${run.workflow_run}` : "");

  return { choose, ofCase, ofCommit, ofRange, ofRuns, ofWorkflow, read, write };
})();
