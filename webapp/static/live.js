// Keeps a page up to date: the server sends the parts that change, once a second, and they are merged into what stands
// there, so that focus, selection and open details stay. Without this script the pages work; they are of when they came.
"use strict";
(() => {
  const address = document.body.dataset.stream;
  const state = document.getElementById("stream-state");

  function say(words) {
    if (!state) return;
    state.textContent = words;
    state.hidden = !words;
  }

  // Makes `now` look like `wanted`, changing as little as possible.
  function merge(now, wanted) {
    if (now.nodeType !== wanted.nodeType || now.nodeName !== wanted.nodeName) {
      now.replaceWith(wanted.cloneNode(true));
      return;
    }
    if (now.nodeType !== Node.ELEMENT_NODE) {
      if (now.data !== wanted.data) now.data = wanted.data;
      return;
    }
    if (now.isEqualNode(wanted)) return;
    for (const { name, value } of wanted.attributes) {
      if (now.getAttribute(name) !== value) now.setAttribute(name, value);
    }
    for (const { name } of [...now.attributes]) {
      // A reader's own doing: what is unfolded stays so.
      if (!wanted.hasAttribute(name) && !(name === "open" && now.nodeName === "DETAILS")) now.removeAttribute(name);
    }
    mergeChildren(now, wanted);
  }

  // Whether one may become the other: what has a name stays what it is, so that the focus stays in it.
  function fits(now, wanted) {
    if (now.nodeType !== wanted.nodeType || now.nodeName !== wanted.nodeName) return false;
    if (now.nodeType !== Node.ELEMENT_NODE) return true;
    return now.id === wanted.id && now.getAttribute("aria-labelledby") === wanted.getAttribute("aria-labelledby");
  }

  // Elements that come and go between others must not make these others new ones.
  function mergeChildren(now, wanted) {
    let next = now.firstChild;
    for (const child of wanted.childNodes) {
      let found = next;
      if (child.nodeType === Node.ELEMENT_NODE) while (found && !fits(found, child)) found = found.nextSibling;
      if (!found || !fits(found, child)) {
        now.insertBefore(child.cloneNode(true), next);
        continue;
      }
      while (next !== found) {
        const gone = next;
        next = next.nextSibling;
        gone.remove();
      }
      next = next.nextSibling;
      merge(found, child);
    }
    while (next) {
      const gone = next;
      next = next.nextSibling;
      gone.remove();
    }
  }

  function put(id, html) {
    const place = document.getElementById(id);
    if (!place) return;
    const wanted = new DOMParser().parseFromString(`<body>${html}</body>`, "text/html").body;
    // Before they are merged: a button that were hidden for a moment would lose the focus.
    offerCopying(wanted);
    mergeChildren(place, wanted);
  }

  // Buttons that copy a command are of no use without this script, so they come hidden.
  function offerCopying(within) {
    if (!navigator.clipboard) return;
    for (const button of within.querySelectorAll("button[data-copy][hidden]")) button.hidden = false;
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  offerCopying(document);

  const theme = document.getElementById("theme");
  if (theme) {
    theme.form.querySelector("button").hidden = true;
    theme.addEventListener("change", () => theme.form.submit());
  }

  // One stream per page, and none while nobody looks: a browser has six connections for all tabs of a site.
  const pause = document.getElementById("stream-pause");
  let events = null;
  let paused = false;
  function close() {
    if (events) events.close();
    events = null;
  }
  function open() {
    if (events || paused || document.hidden || !address || !window.EventSource) return;
    events = new EventSource(address);
    events.onopen = () => { say("Live."); pause.hidden = false; };
    events.onmessage = (event) => {
      for (const [id, html] of Object.entries(JSON.parse(event.data))) put(id, html);
    };
    events.onerror = () => {
      if (!events || events.readyState !== EventSource.CLOSED) return say("Reconnecting…");
      // Refused for good, as when the server was replaced: asked again like a new page would.
      close();
      say("Reconnecting…");
      setTimeout(open, 3000);
    };
  }
  // What moves by itself can be stopped.
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    if (paused) { close(); say("Paused."); } else open();
  });
  document.addEventListener("visibilitychange", () => {
    if (paused) return;
    if (document.hidden) { close(); say("Paused."); } else open();
  });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  open();
})();
