// Ticks of each patient: kept by the browser until a file of them is saved.
const FILE = "{{ decisions_file }}", place = FILE + " " + location.pathname;
const lines = [...document.querySelectorAll("tr[data-who]")];
const ORDER = { reject: 0, "": 1, accept: 2 };
let saved = "";

function show(line, decision, reason, images) {
  Object.assign(line.dataset, { decision, reason, seen: decision ? images : "" });
  for (const box of line.querySelectorAll("input[type=checkbox]")) box.checked = box.value === decision;
  const why = line.querySelector("input[type=text]");
  why.hidden = decision !== "reject";
  why.value = reason;
  line.classList.toggle("rejected", decision === "reject");
  line.querySelector("td.ticks").dataset.value = ORDER[decision];
}

const quoted = text => /[",\n\r;]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
const inName = (a, b) => a.dataset.who < b.dataset.who ? -1 : 1;
function asFile() {
  const decided = lines.filter(line => line.dataset.decision).sort(inName);
  return ["participant_id,decision,reason,images", ...decided.map(({ dataset: d }) =>
    [d.who, d.decision, d.decision === "reject" ? d.reason : "", d.seen].map(quoted).join(","))].join("\n") + "\n";
}

function tell() {
  const count = word => lines.filter(line => (line.dataset.decision || "") === word).length;
  document.getElementById("counts").textContent =
    `${count("accept")} accepted, ${count("reject")} rejected, ${count("")} undecided.`;
  const state = document.getElementById("state");
  state.classList.toggle("unsaved", asFile() !== saved);
  state.textContent = asFile() === saved
    ? (lines.some(line => line.dataset.decision) ? "Saved." : "Tick accept or reject beside each patient.")
    : `NOT YET SAVED to ${FILE}.`;
}

function keep() {
  try { localStorage.setItem(place, asFile()); } catch { /* a browser that keeps nothing */ }
  tell();
}

// Cells of a CSV file, quoted or not.
function parsed(text) {
  const [head, ...body] = text.replace(/^\uFEFF/, "").split(/\r?\n/).filter(Boolean).map(line => {
    const mark = line.includes(";") && !line.includes(",") ? ";" : ",";
    const cells = line.match(new RegExp(`("([^"]|"")*"|[^${mark}]*)(${mark}|$)`, "g")) || [];
    return cells.map(cell => cell.replace(new RegExp(`${mark}$`), "").replace(/^"([^]*)"$/, "$1").replaceAll('""', '"'));
  });
  return body.map(cells => Object.fromEntries((head || []).map((name, k) => [name, cells[k] || ""])));
}

function apply(text, { sameImages }) {
  const found = new Map(parsed(text).map(line => [line.participant_id, line]));
  for (const line of lines) {
    const said = found.get(line.dataset.who);
    const known = said && said.decision in ORDER && !(sameImages && said.images !== line.dataset.images);
    if (known) show(line, said.decision, said.reason, said.images);
    else if (!sameImages) show(line, "", "", "");
  }
}

for (const line of lines) {
  const { decision = "", reason = "", seen = "" } = line.dataset;
  show(line, decision, reason, seen);
  line.addEventListener("change", ({ target }) => {
    if (target.type === "checkbox") {
      show(line, target.checked ? target.value : "", line.dataset.reason || "", line.dataset.images);
    } else {
      show(line, "reject", target.value.replace(/\s+/g, " ").trim(), line.dataset.images);
    }
    keep();
  });
}
saved = asFile();
try {
  const kept = localStorage.getItem(place);
  if (kept) apply(kept, { sameImages: true });
} catch { /* likewise */ }
tell();

document.getElementById("save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([asFile()], { type: "text/csv" }));
  link.download = FILE;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  saved = asFile();
  tell();
});
document.getElementById("load").addEventListener("change", async ({ target }) => {
  if (!target.files.length) return;
  apply(await target.files[0].text(), { sameImages: false });
  saved = asFile();
  keep();
  target.value = "";
});
addEventListener("beforeunload", event => { if (asFile() !== saved) event.preventDefault(); });
