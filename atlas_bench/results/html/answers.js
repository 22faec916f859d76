"use strict";
// Filters of the answers page. Without this script the page is whole and shows everything.
{
  const main = document.querySelector("main");
  const form = document.querySelector("form.filter");
  const records = [...document.querySelectorAll("details.record")];
  const output = form.querySelector("output");
  const plural = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

  function apply() {
    const { task, at, model, verdict } = Object.fromEntries(new FormData(form));
    const wanted = { task, at, model };
    const rows = verdict ? `tbody tr.${verdict}` : "tbody tr";
    let shown = 0, answers = 0;
    main.dataset.verdict = verdict;
    for (const record of records) {
      const fits = Object.entries(wanted).every(([name, value]) => !value || record.dataset[name] === value);
      const found = fits ? record.querySelectorAll(rows).length : 0;
      record.hidden = !fits || (verdict !== "" && found === 0);
      shown += record.hidden ? 0 : 1;
      answers += found;
    }
    output.value = `${plural(answers, "answer")} in ${plural(shown, "record")}`;
  }

  const openAll = (open) => records.forEach((record) => { record.open = open && !record.hidden; });

  function openTarget() {
    const target = document.getElementById(location.hash.slice(1));
    if (target && target.matches("details")) {
      target.open = true;
      target.scrollIntoView();
    }
  }

  form.hidden = false;
  form.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.elements.open.addEventListener("click", () => openAll(true));
  form.elements.close.addEventListener("click", () => openAll(false));
  addEventListener("hashchange", openTarget);
  apply();
  openTarget();
}
