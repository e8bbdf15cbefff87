// What the page does by itself: it listens for events, has htmx fetch the parts that moved, and says when the agent is gone.
"use strict";
(() => {
  const said = document.getElementById("said");
  const lost = document.getElementById("lost");
  const listening = new Map();
  const over = new Map();

  function listen(url) {
    if (listening.has(url)) return;
    // A browser has six connections to us in all its tabs: one that nobody looks at keeps none.
    if (document.hidden) { listening.set(url, null); return; }
    const source = new EventSource(url);
    listening.set(url, source);
    let last = "";
    let timer = 0;
    const moved = () => {
      timer = timer || setTimeout(() => {
        timer = 0;
        // What somebody reads or is about to press stays in its place: rows are replaced, never sorted anew.
        for (const each of document.querySelectorAll(`[data-events="${url}"]`)) htmx.trigger(each, "moved");
      }, 200);
    };
    source.addEventListener("shop-moved", moved);
    source.addEventListener("moved", (event) => {
      moved();
      if (event.data !== last) said.textContent = last = event.data;
    });
    source.addEventListener("ended", (event) => {
      source.close();
      listening.delete(url);
      over.set(url, said.textContent = event.data);
      moved();
    });
    source.onopen = () => { lost.hidden = true; };
    source.onerror = () => {
      lost.hidden = false;
      // The agent was started again and does not know this session: the page says what to do.
      if (source.readyState === EventSource.CLOSED) location.reload();
    };
  }

  htmx.onLoad((element) => {
    const found = element.matches("[data-events]") ? [element] : element.querySelectorAll("[data-events]");
    for (const each of found) listen(each.dataset.events);
  });
  document.addEventListener("visibilitychange", () => {
    for (const [url, source] of [...listening]) {
      source?.close();
      listening.delete(url);
      if (document.querySelector(`[data-events="${url}"]`)) listen(url);
    }
  });
  // Who works with the keyboard stays where they are when a part is made anew: on the same thing in it, else on the part
  // itself. So does what was scrolled sideways.
  let held = null;
  const named = (each) => each.getAttribute("aria-label") ?? each.textContent.trim();
  const same = (one, other) => named(one) === named(other)
    && ["href", "name", "value"].every((name) => one.getAttribute(name) === other.getAttribute(name));
  document.addEventListener("htmx:beforeSwap", ({ detail: { target } }) => {
    const focus = document.activeElement;
    const scrolled = [...target.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
    held = { target, scrolled, focus: target !== focus && target.contains(focus) ? focus : null };
  });
  document.addEventListener("htmx:afterSwap", ({ detail: { target } }) => {
    if (held?.target !== target) return;
    const { focus, scrolled } = held;
    held = null;
    [...target.querySelectorAll(".scroll")].forEach((each, place) => { each.scrollLeft = scrolled[place] ?? 0; });
    if (focus && !target.contains(document.activeElement)) {
      const again = [...target.querySelectorAll(focus.tagName)].find((each) => same(each, focus));
      if (!again) target.tabIndex = -1;
      (again ?? target).focus({ preventScroll: true });
    }
    // What came of it is said too, once it stands there.
    const last = over.get(target.dataset.events);
    const result = target.querySelector(".note, p")?.textContent.trim().replace(/\s+/g, " ");
    if (!last || !result || target.querySelector("progress")) return;
    over.delete(target.dataset.events);
    said.textContent = `${last} ${result}`;
  });

  // A part that cannot be made says nothing by itself: the whole page says why.
  document.addEventListener("htmx:responseError", () => location.reload());
  window.addEventListener("pagehide", () => { for (const source of listening.values()) source?.close(); });

  // A form is sent once; the button says that it was heard.
  document.addEventListener("submit", (event) => {
    for (const button of event.target.querySelectorAll("button[type=submit]")) {
      setTimeout(() => { button.disabled = true; }, 0);
    }
  });
  window.addEventListener("pageshow", () => {
    for (const button of document.querySelectorAll("button[type=submit]")) button.disabled = false;
  });

  // Fields that belong to some choices only: "FIELD VALUE VALUE..." says to which.
  for (const part of document.querySelectorAll("[data-shown-for]")) {
    const [name, ...values] = part.dataset.shownFor.split(" ");
    const form = part.closest("form");
    const show = () => { part.hidden = !values.includes(form.elements[name].value); };
    form.addEventListener("change", show);
    addEventListener("pageshow", show);  // what the browser fills in when somebody comes back
    show();
  }
})();
