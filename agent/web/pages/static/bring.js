// Takes a file in: chosen or dropped, it is sent as it is, and the page that the answer names shows what came of it.
// Where the form has a button, it is sent when that is pressed.
"use strict";
(() => {
  const form = document.getElementById("bring");
  const input = document.getElementById("dropped");
  const area = input.closest(".drop");
  const progress = document.getElementById("bringing");
  const problem = document.getElementById("brought");
  const button = form.querySelector("button[type=submit]");
  const token = JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRF-Token"];

  function send(file) {
    const asked = new URLSearchParams();
    for (const name of ["device", "unknown"]) if (form.elements[name]?.checked) asked.set(name, "skip");
    const request = new XMLHttpRequest();
    request.open("POST", `${form.dataset.bring}${form.dataset.bring.includes("?") ? "&" : "?"}${asked}`);
    request.setRequestHeader("X-CSRF-Token", token);
    request.setRequestHeader("X-File-Name", encodeURIComponent(file.name));
    request.setRequestHeader("X-File-Passphrase", encodeURIComponent(form.elements.words.value));
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.addEventListener("progress", (event) => { progress.value = event.loaded / event.total; });
    const failed = () => {
      const page = new DOMParser().parseFromString(request.responseText || "", "text/html");
      problem.textContent = page.querySelector(".note.bad")?.textContent ?? document.getElementById("lost").textContent;
      problem.hidden = false;
      progress.hidden = true;
      if (button) button.disabled = false;
      if (!button) input.value = "";
    };
    request.addEventListener("load", () => {
      if (request.status === 200) location.assign(JSON.parse(request.responseText).at);
      else failed();
    });
    request.addEventListener("error", failed);
    problem.hidden = true;
    progress.hidden = false;
    request.send(file);
  }

  const chosen = () => { if (input.files.length && !button) send(input.files[0]); };
  input.addEventListener("change", chosen);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (button && input.files.length) send(input.files[0]);
  });
  area.addEventListener("dragover", (event) => { event.preventDefault(); area.classList.add("over"); });
  area.addEventListener("dragleave", () => area.classList.remove("over"));
  area.addEventListener("drop", (event) => {
    event.preventDefault();
    area.classList.remove("over");
    input.files = event.dataTransfer.files;
    chosen();
  });
})();
