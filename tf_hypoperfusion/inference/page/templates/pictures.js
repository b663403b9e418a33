"use strict";
(() => {
  // Pictures open larger; the arrow keys show those beside it.
  const dialog = document.getElementById("larger");
  const every = [...document.querySelectorAll("button.open")];
  let now = 0;
  const show = index => {
    now = (index + every.length) % every.length;
    const small = every[now].querySelector("img");
    const large = dialog.querySelector("img");
    large.src = small.src;
    large.alt = small.alt;
    large.classList.toggle("pixels", every[now].dataset.kind === "slice");
    dialog.querySelector("p").textContent = small.alt;
  };
  every.forEach((button, index) => button.addEventListener("click", () => { show(index); dialog.showModal(); }));
  for (const [id, step] of [["before", -1], ["after", 1]]) {
    document.getElementById(id).addEventListener("click", () => show(now + step));
  }
  dialog.addEventListener("keydown", event => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) { event.preventDefault(); show(now + step); }
  });
  dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
})();
