"use strict";
// The page that the address names.

const pages = (() => {
  let shown = 0;

  async function show() {
    const { page, id, query } = address.read();
    const mine = ++shown;
    const main = document.createElement("main");
    main.id = "main";
    charts.clear();
    document.getElementById("main").replaceWith(main);
    // The plotting library takes longest: it is loaded beside the data. Its text is drawn before that in any case.
    if (page !== "runs") torchperf.loadScript(torchperf.index().plotly).catch(() => {}); // told where a chart is drawn
    try {
      if (page === "case") await casePage.render(main, query, id);
      else if (page === "runs") await runsPage.render(main, query);
      else overview.render(main, query);
    } catch (problem) {
      if (mine === shown) main.append(dom.make("p", { class: "problem", role: "alert" }, String(problem.message ?? problem)));
    }
    main.dataset.ready = "true";
  }

  function start() {
    if (!torchperf.index()) {
      document.getElementById("main").append("data/index.js cannot be loaded: the site is not complete.");
      return;
    }
    addEventListener("hashchange", () => {
      show();
      scrollTo(0, 0);
      document.querySelector("h1").focus();
    });
    show();
  }

  return { show, start };
})();

pages.start();
