// Shows a run while it is made, and lets the arrow keys go through its marks. Without this script the form works too: the
// page of the finished run comes instead.
"use strict";
(() => {
  const COLUMNS = 40;
  const STEPS = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -COLUMNS, ArrowDown: COLUMNS };
  for (const frame of document.querySelectorAll("[data-waffle]")) {
    const marks = [...frame.querySelectorAll("svg > use")].filter((mark) => mark.querySelector("title"));
    const words = frame.querySelector(".cell-words");
    let chosen = -1;
    const choose = (index) => {
      if (marks[chosen]) marks[chosen].classList.remove("chosen");
      chosen = Math.min(Math.max(index, 0), marks.length - 1);
      marks[chosen].classList.add("chosen");
      words.textContent = marks[chosen].querySelector("title").textContent;
    };
    frame.addEventListener("keydown", (event) => {
      if (!marks.length || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key in STEPS) choose(chosen < 0 ? 0 : chosen + STEPS[event.key]);
      else if (event.key === "Home") choose(0);
      else if (event.key === "End") choose(marks.length - 1);
      else return;
      event.preventDefault();
    });
    frame.addEventListener("mouseover", (event) => {
      const index = marks.indexOf(event.target.closest("use"));
      if (index >= 0) choose(index);
    });
  }
})();

(() => {
  const form = document.getElementById("run-form");
  const live = document.getElementById("live");
  if (!form || !live || !window.EventSource || !window.fetch) return;

  const SVG = "http://www.w3.org/2000/svg";
  const COLUMNS = 40;
  const bar = document.getElementById("live-bar");
  const words = document.getElementById("live-words");
  const waffle = document.getElementById("live-waffle");
  const status = document.getElementById("live-status");
  const stop = document.getElementById("live-stop");
  const aways = live.querySelectorAll("[data-away]");
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  let drawn = 0;
  let said = 0;

  function draw(cells) {
    if (calm) return;
    const marks = document.createDocumentFragment();
    for (const cell of cells) {
      const odd = cell.endsWith("!");
      for (const glyph of odd ? [cell.slice(0, -1), "odd"] : [cell]) {
        const mark = document.createElementNS(SVG, "use");
        mark.setAttribute("href", "#g" + glyph);
        mark.setAttribute("x", (drawn % COLUMNS) * 10);
        mark.setAttribute("y", Math.floor(drawn / COLUMNS) * 10);
        marks.append(mark);
      }
      drawn += 1;
    }
    waffle.append(marks);
  }

  function show(progress) {
    bar.max = progress.total;
    bar.value = progress.done;
    words.textContent = `${progress.done} of ${progress.total} reads, ${(progress.elapsed_ms / 1000).toFixed(2)} s`;
    // A screen reader hears quarters, not every step.
    const quarter = Math.floor((4 * progress.done) / progress.total);
    if (quarter > said) {
      said = quarter;
      status.textContent = `${quarter * 25} % of the reads are made.`;
    }
  }

  function follow(run) {
    const events = new EventSource(run.events);
    events.addEventListener("progress", (event) => {
      const progress = JSON.parse(event.data);
      show(progress);
      draw(progress.cells);
    });
    events.addEventListener("done", (event) => {
      events.close();
      show(JSON.parse(event.data));
      window.location.assign(run.page);
    });
    events.onerror = () => {
      if (events.readyState !== EventSource.CLOSED) {
        status.textContent = "Reconnecting. The run goes on.";
        return;
      }
      // The browser has given up: the run is no longer kept, as after a restart.
      status.textContent = "This run is lost. Please start another one.";
      live.hidden = true;
      form.querySelector("button").disabled = false;
    };
    for (const button of aways) {
      button.setAttribute("aria-pressed", "false");
      button.onclick = () => {
        const away = button.getAttribute("aria-pressed") !== "true";
        const replica = away ? button.dataset.away : "";
        fetch(run.away, { method: "POST", redirect: "manual", body: new URLSearchParams({ replica }) });
        for (const other of aways) other.setAttribute("aria-pressed", String(away && other === button));
      };
    }
    stop.onclick = () => { fetch(run.stop, { method: "POST", redirect: "manual" }); };
    window.addEventListener("pagehide", () => events.close());
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    status.textContent = "";
    try {
      const response = await fetch(form.action, {
        method: "POST",
        headers: { Accept: "application/json" },
        body: new URLSearchParams(new FormData(form)),
      });
      const answer = await response.json();
      if (!response.ok) throw new Error(answer.error.message);
      const rows = Math.max(1, Math.ceil(Number(form.elements.reads.value) / COLUMNS));
      waffle.setAttribute("viewBox", `0 0 400 ${rows * 10}`);
      waffle.querySelectorAll(":scope > use").forEach((mark) => mark.remove());
      drawn = 0;
      said = 0;
      live.hidden = false;
      follow(answer);
    } catch (error) {
      status.textContent = error.message;
      button.disabled = false;
    }
  });

  // Coming back to this page by the browser's own cache must not leave the button disabled.
  window.addEventListener("pageshow", () => {
    form.querySelector("button").disabled = false;
    live.hidden = true;
  });
})();
