// What the page does by itself: it listens for events, has htmx fetch the parts that moved, and says when the agent is gone.
"use strict";
(() => {
  const said = document.getElementById("said");
  const lost = document.getElementById("lost");
  const listening = new Map();

  function listen(element) {
    const url = element.dataset.events;
    if (listening.has(url)) return;
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
      said.textContent = event.data;
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
    for (const each of found) listen(each);
  });
  // A part that cannot be made says nothing by itself: the whole page says why.
  document.addEventListener("htmx:responseError", () => location.reload());
  window.addEventListener("pagehide", () => { for (const source of listening.values()) source.close(); });

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
