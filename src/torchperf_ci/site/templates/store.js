"use strict";
// The site's data. Every file below data/ is a script that calls torchperf.add with its name and what it holds: pages
// that are opened from a disk may load scripts, but may not read files.

const torchperf = (() => {
  const held = new Map();
  const loads = new Map();

  function add(name, data) {
    held.set(name, data);
  }

  function addScript(address) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = address;
      script.onload = resolve;
      script.onerror = () => reject(new Error(`${address} cannot be loaded`));
      document.head.append(script);
    });
  }

  /** Load a script of the site once; a failed load is tried again the next time. */
  function loadScript(address) {
    if (!loads.has(address)) {
      const loading = addScript(address);
      loads.set(address, loading);
      loading.catch(() => loads.delete(address));
    }
    return loads.get(address);
  }

  /** Load a file of data. A version stands behind its address so that no old copy of it is shown. */
  async function load(name, version) {
    if (!held.has(name)) await loadScript(`data/${name}.js?v=${version}`);
    return held.get(name);
  }

  const index = () => held.get("index");

  /** Load the runs of all months, oldest first, each run with its month. */
  async function loadMonths() {
    return Promise.all(index().months.map(async (month) => {
      const data = await load(`${month.name}/runs`, month.version);
      for (const run of data.runs) run.month = month;
      return data;
    }));
  }

  /** Load a case: its runs, oldest first, and every metric with an element per run. */
  async function loadCase(of) {
    const months = index().months.filter((_, place) => of.months.includes(place));
    const parts = await Promise.all(months.map(async (month) => {
      const runs = (await load(`${month.name}/runs`, month.version));
      const part = await load(`${month.name}/case-${of.id}`, month.version);
      return { month, runs, part };
    }));
    const joined = { runs: [], machines: [], failures: [], metrics: new Map() };
    for (const { month, runs, part } of parts) {
      const offset = joined.runs.length;
      part.runs.forEach((place, at) => {
        joined.runs.push(Object.assign(runs.runs[place], { month }));
        joined.machines.push(part.machines[part.machine[at]]);
      });
      for (const failure of part.failures) joined.failures.push({ ...failure, at: failure.at + offset });
      for (const [name, numbers] of Object.entries(part.metrics)) {
        if (!joined.metrics.has(name)) joined.metrics.set(name, { value: [], low: [], high: [], again: [] });
        const metric = joined.metrics.get(name);
        for (const end of ["value", "low", "high"]) {
          metric[end].length = offset;
          metric[end].push(...(numbers[end] ?? []));
        }
        metric.again.push(...(numbers.again ?? []).map(([at, value]) => [at + offset, value]));
      }
    }
    for (const metric of joined.metrics.values()) {
      for (const end of ["value", "low", "high"]) {
        metric[end].length = joined.runs.length;
        metric[end] = Array.from(metric[end], (value) => value ?? null);
      }
    }
    return joined;
  }

  return { add, index, load, loadCase, loadMonths, loadScript };
})();
