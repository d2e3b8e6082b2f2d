// All about one job: its fields, its Data, its history.

import { get, jobPath } from "./api.js";
import { open } from "./dialogs.js";
import { el } from "./dom.js";
import { demand, moment, time } from "./format.js";
import { eventItem } from "./events.js";

const MOMENTS = new Set(["CreatedAt", "UpdatedAt", "DeletedAt", "EstimatedStart", "NextCall"]);

export async function details(type, id, tell, acts) {
  let job, history;
  try {
    [job, history] = await Promise.all([get(jobPath(type, id)), get(`${jobPath(type, id)}/events`).catch(() => null)]);
  } catch (error) {
    tell(`${id} cannot be shown: ${error.message}.`, true);
    return;
  }
  const rows = Object.entries(job).filter(([name, value]) => name !== "Data" && value !== null).map(([name, value]) =>
    el("tr", {}, el("th", { scope: "row", text: name }), el("td", {}, ...shown(name, value))));
  const content = [
    el("p", { class: "asks", text: `Asks for ${demand(job)}` }),
    el("table", { class: "fields" }, el("tbody", {}, ...rows)),
    el("h3", { text: "Data" }),
    el("pre", { tabindex: "0", "aria-label": "Data", text: pretty(job.Data) }),
    el("h3", { text: "History" }),
    history === null ? el("p", { text: "It cannot be read." })
      : history.length ? el("ol", { class: "events" }, ...history.map((event) => eventItem(event))) : el("p", { text: "Nothing is remembered." }),
  ];
  const buttons = acts(job).map(([words, act]) => el("button", { type: "button", text: words, on: { click: () => { dialog.close(); act(); } } }));
  const { dialog } = open(id, content, { actions: buttons, side: true });
}

function shown(name, value) {
  if (MOMENTS.has(name)) return [time(value), ` (${moment(value)})`];
  if (name === "EstimatedSpread") return [value.map(moment).join(" to ")];
  return [Array.isArray(value) ? value.join(", ") : String(value)];
}

function pretty(written) {
  try {
    return JSON.stringify(JSON.parse(written), null, 2);
  } catch {
    return written;
  }
}
