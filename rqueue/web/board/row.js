// One row of the line: made once for a job, and kept in step with it.

import { el, icon, say } from "./dom.js";
import { ago, count, demand, moment, pool, reason, setTime, time } from "./format.js";
import { colour } from "./colours.js";

const ACTS = [
  ["front", "Move to the front", "Alt+Home"],
  ["up", "Move up", "Alt+↑"],
  ["down", "Move down", "Alt+↓"],
  ["back", "Move to the back", "Alt+End"],
  ["to", "Move to another place", "M"],
  ["cancel", "Cancel", "Delete"],
];

// `can` says which of its rights the session has: {move, end}.
export function makeRow(id, can) {
  const cell = (name, ...children) => el("span", { role: "gridcell", class: name }, ...children);
  const buttons = ACTS.filter(([act]) => (act === "cancel" ? can.end : can.move)).map(([act, words, keys]) =>
    el("button", { type: "button", tabindex: "-1", data: { act }, "aria-label": `${words}: ${id}`, title: `${words} (${keys})` }, icon(act)),
  );
  const row = el("div", { role: "row", class: "row", tabindex: "-1", data: { requestId: id } },
    cell("position"),
    cell("name", el("button", { type: "button", tabindex: "-1", class: "plain", data: { act: "details" }, title: id, text: id })),
    cell("owner", el("i", { class: "swatch", "aria-hidden": "true" }), el("span")),
    cell("demand"),
    cell("age", time(new Date(0).toISOString(), "age")),
    cell("reason", el("b"), el("span")),
    cell("start"),
    cell("acts", ...buttons),
  );
  return row;
}

export function updateRow(row, job, index) {
  const [position, , owner, asks, since, why, start] = row.children;
  row.setAttribute("aria-rowindex", index + 2);
  row.classList.toggle("fixed", job.Status !== "queued");
  say(position, job.Position === undefined ? "" : count(job.Position));
  owner.firstChild.className = `swatch ${colour(job.OwnerID)}`;
  say(owner.lastChild, job.OwnerID, job.OwnerID);
  const asked = demand(job);
  say(asks, asked, `${asked} in pool ${pool(job)}`);
  setTime(since.firstChild, job.CreatedAt, `since ${moment(job.CreatedAt)}`);
  tellWhy(why, job);
  tellStart(start, job);
}

function tellWhy(cell, job) {
  const { code, short, words } = job.Status === "queued"
    ? reason(job)
    : { code: job.Status, short: job.Status, words: job.LastError ?? (job.Placement ?? []).join(", ") };
  cell.dataset.code = code;
  say(cell.firstChild, short);
  say(cell.lastChild, words, words);
}

function tellStart(cell, job) {
  if (!job.EstimatedStart) {
    say(cell, job.Status === "queued" ? "–" : "", job.Status === "queued" ? "Too little is known to say when" : "");
    return;
  }
  const [early, late] = job.EstimatedSpread;
  say(cell, ago(job.EstimatedStart).replace("now", "any moment"), `Four of five start between ${moment(early)} and ${moment(late)}; ${job.EstimateBasis}`);
}

// A place whose job is not read yet.
export function blankRow(index) {
  return el("div", { role: "row", class: "row blank", "aria-rowindex": index + 2, "aria-busy": "true" },
    el("span", { role: "gridcell", class: "position", text: count(index) }));
}
