// Dialogs: a question, help, another place for a job.

import { count } from "./format.js";
import { el } from "./dom.js";
import { KEYS } from "./keys.js";

// Show a dialog until it is closed; it is made anew each time. Resolves to its returnValue.
export function open(title, content, { actions = [], side = false } = {}) {
  const form = el("form", { method: "dialog" }, el("h2", { text: title, id: "dialog-title" }), ...content,
    el("div", { class: "actions" }, ...actions, el("button", { value: "", formnovalidate: true, text: actions.length ? "Leave it" : "Close" })));
  const dialog = el("dialog", { "aria-labelledby": "dialog-title", class: side ? "side" : "" }, form);
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close("");
  });
  document.body.append(dialog);
  dialog.showModal();
  return { dialog, closed: new Promise((resolve) => dialog.addEventListener("close", () => { dialog.remove(); resolve(dialog.returnValue); })) };
}

export async function confirmed(title, words, action) {
  const yes = el("button", { value: "yes", class: "danger", text: action });
  return (await open(title, [el("p", { text: words })], { actions: [yes] }).closed) === "yes";
}

export function help() {
  const rows = KEYS.map(([keys, does]) => el("tr", {}, el("th", { scope: "row" }, ...keys.split(", ").flatMap((key, index) => [index ? " " : null, el("kbd", { text: key })])), el("td", { text: does })));
  open("Keys", [el("p", { text: "Rows can be dragged, too; with a finger, hold one until it comes along." }), el("table", { class: "keys" }, el("tbody", {}, ...rows))]);
}

// Where a job is to go: ["position", number], ["before", id] or ["after", id]; null for nowhere.
export async function anotherPlace(id, total) {
  const last = Math.max(0, total - 1);
  const kind = el("select", { id: "place-kind" },
    el("option", { value: "position", text: "to position" }),
    el("option", { value: "before", text: "right before the job" }),
    el("option", { value: "after", text: "right behind the job" }));
  const place = el("input", { id: "place", required: true, autocomplete: "off", spellcheck: "false", maxlength: 256, min: 0, max: last });
  const adapt = () => {
    place.type = kind.value === "position" ? "number" : "text";
    place.placeholder = kind.value === "position" ? `0 to ${count(last)}` : "its request_id";
  };
  kind.addEventListener("change", adapt);
  adapt();
  const fields = el("p", { class: "fields" }, el("label", { for: "place-kind", text: "Move it" }), kind, el("label", { for: "place", class: "hidden", text: "Place" }), place);
  const { closed } = open(`Move ${id}`, [fields], { actions: [el("button", { value: "move", class: "primary", text: "Move" })] });
  place.focus();
  if ((await closed) !== "move") return null;
  return [kind.value, kind.value === "position" ? Number(place.value) : place.value];
}
