// Sorting and filtering of the leaderboard, and copy buttons. Every page reads in full without it.
"use strict";

(function () {
  const table = document.getElementById("leaderboard");
  if (table) board(table);
  for (const block of document.querySelectorAll("[data-copy]")) copyButton(block);

  function board(table) {
    const heads = Array.from(table.querySelectorAll("th[data-key]"));
    const bodies = Array.from(table.querySelectorAll("tbody.rows"));
    const divider = table.querySelector("tbody.divider");
    const original = new Map(bodies.map((body) => [body, Array.from(body.rows)]));
    const filter = document.getElementById("filter");
    const status = document.getElementById("status");
    const start = { sort: "robust_score", dir: "desc", q: "" };
    let state = Object.assign({}, start);

    for (const head of heads) {
      const label = head.querySelector(".label") || head;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      while (label.firstChild) button.append(label.firstChild);
      label.append(button);
      button.addEventListener("click", () => {
        const first = head.dataset.first;
        const other = first === "asc" ? "desc" : "asc";
        const dir = state.sort === head.dataset.key && state.dir === first ? other : first;
        change({ sort: head.dataset.key, dir: dir });
      });
    }
    filter.closest(".tools").hidden = false;
    filter.addEventListener("input", () => change({ q: filter.value }));
    window.addEventListener("popstate", () => read());
    read();

    function read() {
      const asked = new URLSearchParams(location.search);
      const ignored = [];
      state = Object.assign({}, start);
      if (asked.has("sort")) {
        const head = heads.find((h) => h.dataset.key === asked.get("sort"));
        if (head) Object.assign(state, { sort: head.dataset.key, dir: head.dataset.first });
        else ignored.push("sort");
      }
      if (asked.has("dir")) {
        if (["asc", "desc"].includes(asked.get("dir"))) state.dir = asked.get("dir");
        else ignored.push("dir");
      }
      state.q = asked.get("q") || "";
      filter.value = state.q;
      for (const key of asked.keys()) if (!(key in start)) ignored.push(key);
      show(ignored.length ? "Ignored in the address: " + ignored.join(", ") + "." : "");
    }

    function change(part) {
      state = Object.assign({}, state, part);
      const query = new URLSearchParams();
      if (state.sort !== start.sort || state.dir !== start.dir) {
        query.set("sort", state.sort);
        query.set("dir", state.dir);
      }
      if (state.q) query.set("q", state.q);
      const text = query.toString();
      try {
        history.replaceState(null, "", location.pathname + (text ? "?" + text : "") + location.hash);
      } catch (error) {
        // Some browsers keep the address of a local file as it is; the table still sorts.
      }
      show("");
    }

    function show(notice) {
      const column = heads.findIndex((h) => h.dataset.key === state.sort);
      const asText = "text" in heads[column].dataset;
      const sign = state.dir === "asc" ? 1 : -1;
      const asBuilt = state.sort === start.sort && state.dir === start.dir;
      table.classList.toggle("resorted", !asBuilt);
      heads.forEach((head, i) => {
        if (i === column) head.setAttribute("aria-sort", state.dir === "asc" ? "ascending" : "descending");
        else head.removeAttribute("aria-sort");
      });
      const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
      let total = 0;
      let visible = 0;
      for (const body of bodies) {
        const rows = original.get(body).map((row, place) => {
          const raw = row.cells[column].dataset.sort;
          return { row: row, place: place, missing: raw === "", value: asText ? raw : Number(raw) };
        });
        // What was not measured comes last whichever way the column is sorted.
        if (!asBuilt) rows.sort((a, b) => {
          if (a.missing !== b.missing) return a.missing ? 1 : -1;
          if (a.missing || a.value === b.value) return a.place - b.place;
          const order = asText ? a.value.localeCompare(b.value, "en") : a.value - b.value;
          return sign * order || a.place - b.place;
        });
        let here = 0;
        for (const item of rows) {
          item.row.hidden = !words.every((word) => item.row.dataset.text.includes(word));
          if (!item.row.hidden) here += 1;
        }
        body.append(...rows.map((item) => item.row));
        total += rows.length;
        visible += here;
        if (divider && body.classList.contains("unranked")) divider.hidden = here === 0;
      }
      const count = words.length ? visible + " of " + total + (total === 1 ? " entry" : " entries") : "";
      status.textContent = [count, notice].filter(Boolean).join(" ");
    }
  }

  function copyButton(block) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      const code = block.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch (error) {
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    block.append(button);
  }
})();
