// Shows a run while it is made. Without this script the form works too: the page of the finished run comes instead.
"use strict";
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
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  let drawn = 0;
  let said = 0;

  function draw(cells) {
    if (calm) return;
    const marks = document.createDocumentFragment();
    for (const cell of cells) {
      const mark = document.createElementNS(SVG, "use");
      mark.setAttribute("href", "#g" + cell);
      mark.setAttribute("x", (drawn % COLUMNS) * 10);
      mark.setAttribute("y", Math.floor(drawn / COLUMNS) * 10);
      marks.append(mark);
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
