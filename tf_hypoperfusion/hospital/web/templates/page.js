"use strict";
(() => {
  const byId = id => document.getElementById(id);
  document.documentElement.classList.add("scripted");
  let sending = false;

  // At the lower edge: nothing that one points at or types in moves.
  const tell = (text, where, href) => {
    byId("news").hidden = !text;
    const [words, link] = byId("news").children;
    if (words.textContent !== text) words.textContent = text;
    link.textContent = where;
    link.href = href;
  };

  // A list or a study at work is loaded anew when it is no longer so. A result is left to its reader, who is told.
  const shown = document.body.dataset;
  const isRead = shown.study && !byId("words");
  const anew = ["Load the page", location.pathname];
  let unanswered = 0;
  const update = now => {
    const isOld = now.state !== shown.state;
    if (isOld && !isRead && !sending) { location.reload(); return; }
    const isGone = isRead && now.state === "none";
    if (isGone) for (const button of document.querySelectorAll("main button")) button.disabled = true;
    document.body.classList.toggle("old", Boolean(isRead && isOld));
    if (isGone) tell(now.news, "To the list", "/");
    else tell(isRead && isOld ? now.news : "", ...anew);
    if (byId("words") && now.words) byId("words").textContent = now.words[0].toUpperCase() + now.words.slice(1);
  };
  const look = async () => {
    try {
      const of = shown.study ? `?study=${encodeURIComponent(shown.study)}&state=${encodeURIComponent(shown.state)}` : "";
      const answer = await fetch("/state" + of, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(5000) });
      if (answer.redirected) tell("You are logged out here.", "Log in", "/login");
      else update(await answer.json());
      unanswered = 0;
    } catch {
      unanswered += 1;
      if (unanswered > 2) tell("The program does not answer: it was ended, or the connection is broken. What stands here may be out of date.", ...anew);
    }
    document.body.classList.toggle("unanswered", unanswered > 2);
    setTimeout(look, byId("words") ? 1000 : 3000);
  };
  if (shown.state) setTimeout(look, 1000);

  const roles = Array.from(document.querySelectorAll("select[name^=role]"));
  for (const one of roles) {
    one.addEventListener("change", () => {
      const said = new Set(roles.map(each => each.value));
      byId("lone").hidden = said.has("") || said.has("adc") === said.has("dwi") || said.has("b0");
    });
  }

  const drop = byId("drop");
  if (!drop) return;
  for (const hidden of document.querySelectorAll(".script")) hidden.hidden = false;

  const fail = text => {
    sending = false;
    byId("sending").hidden = true;
    byId("fault").textContent = text;
    byId("fault").hidden = false;
  };

  // One request for all: what is cut off leaves nothing behind.
  const send = files => {
    if (sending) return;
    if (!files.length) { fail("No file was found in what was dropped."); return; }
    const bytes = files.reduce((sum, [file]) => sum + file.size, 0);
    if (files.length > drop.dataset.mostFiles || bytes > drop.dataset.mostBytes) {
      fail(`These are ${files.length} files of ${(bytes / 2 ** 30).toFixed(1)} GiB. Expected one patient's study: ` +
           `up to ${drop.dataset.mostFiles} files and ${drop.dataset.mostBytes / 2 ** 30} GiB.`);
      return;
    }
    sending = true;
    byId("fault").hidden = true;
    byId("sending").hidden = false;
    const form = new FormData();
    form.append("csrf", drop.elements.csrf.value);
    for (const [file, name] of files) form.append("files", file, name);
    const request = new XMLHttpRequest();
    request.open("POST", drop.action);
    request.setRequestHeader("Accept", "application/json");
    request.responseType = "json";
    request.upload.onprogress = event => {
      const done = event.loaded / event.total;
      byId("bar").value = done;
      byId("sent").textContent = done < 1 ? `Sending ${files.length} files: ${Math.round(100 * done)}%` : "Looking at the files";
    };
    request.onload = () => {
      if (request.response?.next) location.assign(request.response.next);
      else fail(request.response?.fault || "The files were not taken (status " + request.status + "). Load this page again.");
    };
    request.onerror = () => fail("The connection broke, or the files were refused; nothing of them was kept.");
    request.send(form);
  };

  const listed = input => Array.from(input.files, file => [file, file.webkitRelativePath || file.name]);
  for (const id of ["files", "folder"]) {
    byId(id).addEventListener("change", event => send(listed(event.target)));
  }

  const entryFile = entry => new Promise((done, failed) => entry.file(done, failed));
  const entriesOf = reader => new Promise((done, failed) => reader.readEntries(done, failed));
  const walk = async (entry, found) => {
    if (entry.isFile) { found.push([await entryFile(entry), entry.fullPath.slice(1)]); return; }
    const reader = entry.createReader();
    for (let some = await entriesOf(reader); some.length; some = await entriesOf(reader)) {
      for (const each of some) await walk(each, found);
    }
  };
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, event => { event.preventDefault(); drop.classList.add("over"); });
  }
  document.addEventListener("dragleave", event => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", async event => {
    event.preventDefault();
    drop.classList.remove("over");
    // The list is empty after the first wait.
    const entries = Array.from(event.dataTransfer.items, item => item.webkitGetAsEntry?.()).filter(Boolean);
    const plain = Array.from(event.dataTransfer.files, file => [file, file.name]);
    const found = [];
    try {
      for (const entry of entries) await walk(entry, found);
    } catch {
      fail("A file or folder could not be read.");
      return;
    }
    send(entries.length ? found : plain);
  });
})();
