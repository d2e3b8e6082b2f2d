// Who runs, and where; whom the service calls, and whom it could not reach.

import { ask, listPath } from "./api.js";
import { colour } from "./colours.js";
import { el } from "./dom.js";
import { count, demand, plural, time } from "./format.js";

const READ = 500;
const SHOWN = 50;
const CALLING = 100;
const FAILED = 50;

// The running and the calling jobs: {running, calling, more}, of each the first by priority.
export async function readLive(type) {
  const [running, calling] = await Promise.all([
    ask("GET", listPath(type, { status: "running", limit: READ })),
    ask("GET", listPath(type, { status: "calling", limit: CALLING, standing: true })),
  ]);
  return { running: running.data, calling: calling.data, more: running.next !== null || calling.next !== null };
}

function owner(job) {
  return el("span", { class: "owner" }, el("i", { class: `swatch ${colour(job.OwnerID)}`, "aria-hidden": "true" }), el("span", { text: job.OwnerID, title: job.OwnerID }));
}

const named = (id, act) => el("button", { type: "button", class: "plain", text: id, title: id, on: { click: () => act("details", id) } });

export function showRunning(section, { running, more }, act, can) {
  const items = running.slice(0, SHOWN).map((job) => el("li", {},
    el("span", { class: "name" }, named(job.RequestID, act)), owner(job),
    el("span", { class: "where", text: where(job.Placement ?? []), title: (job.Placement ?? []).join(", ") }),
    el("span", { class: "demand", text: demand(job) }), time(job.UpdatedAt, "age"),
    can.end ? el("button", { type: "button", class: "small", text: "End", "aria-label": `End: ${job.RequestID}`, on: { click: () => act("end", job.RequestID) } }) : null));
  const rest = running.length - items.length;
  replace(section, [
    items.length ? el("ul", { class: "jobs" }, ...items) : el("p", { class: "nothing", text: "Nobody runs." }),
    rest > 0 || more ? el("p", { class: "nothing" }, `${plural(rest, "more job")}${more ? ", and those beyond them" : ""}: `,
      el("button", { type: "button", class: "plain", text: "show all", on: { click: () => act("filter", "running") } })) : null,
  ]);
}

function where(placement) {
  const hosts = [...new Set(placement)];
  return hosts.length > 2 ? `${hosts[0]} and ${count(hosts.length - 1)} more` : hosts.join(", ");
}

// Failed jobs that the last events tell of: request_id → {id, owner, at, why}.
export class Deliveries {
  #section; #failed = new Map(); #calling = [];

  constructor(section, act, can) {
    this.#section = section;
    this.act = act;
    this.can = can;
  }

  forget() {
    this.#failed.clear();
    this.#calling = [];
  }

  // Take in events, oldest first.
  learn(events) {
    for (const event of events) {
      if (event.what === "failed") this.#failed.set(event.request_id, { id: event.request_id, owner: event.owner_id, at: event.at, why: event.why });
      else if (["queued", "purged", "created"].includes(event.what)) this.#failed.delete(event.request_id);
    }
    while (this.#failed.size > FAILED) this.#failed.delete(this.#failed.keys().next().value);
  }

  show(calling = this.#calling) {
    this.#calling = calling;
    const lacking = calling.map((job) => el("li", {},
      el("span", { class: "name" }, named(job.RequestID, this.act)), owner(job),
      el("span", { class: "how", text: attempts(job) }),
      job.NextCall ? el("span", { class: "next" }, job.LastError ? "again " : "until ", time(job.NextCall)) : null,
      job.LastError ? el("span", { class: "error", text: job.LastError }) : null,
      this.can.end ? el("button", { type: "button", class: "small", text: "Call now", "aria-label": `Call now: ${job.RequestID}`, on: { click: () => this.act("call", job.RequestID) } }) : null));
    const failed = [...this.#failed.values()].reverse().map((job) => el("li", { data: { status: "failed" } },
      el("span", { class: "name" }, named(job.id, this.act)), owner({ OwnerID: job.owner }),
      el("span", { class: "how" }, "failed ", time(job.at)),
      job.why ? el("span", { class: "error", text: job.why }) : null,
      this.can.end ? el("button", { type: "button", class: "small", text: "Back in line", "aria-label": `Back in line: ${job.id}`, on: { click: () => this.act("requeue", job.id) } }) : null));
    replace(this.#section, [
      lacking.length || failed.length ? el("ul", { class: "jobs" }, ...lacking, ...failed) : el("p", { class: "nothing", text: "All calls have arrived." }),
      el("p", { class: "nothing" }, "Of failures, those of the last events: ", el("button", { type: "button", class: "plain", text: "show all that failed", on: { click: () => this.act("filter", "failed") } })),
    ]);
  }
}

function attempts(job) {
  return `call ${count(job.Attempts ?? 0)}${job.LastError ? ", the last one failed" : ""}`;
}

// What a section shows, anew; a button that had the focus has it again.
export function replace(section, children) {
  const content = section.querySelector(".content");
  const buttons = () => [...content.querySelectorAll("button, summary")];
  const name = (button) => button.getAttribute("aria-label") ?? button.textContent;
  const focused = content.contains(document.activeElement) ? name(document.activeElement) : null;
  content.replaceChildren(...children.filter(Boolean));
  if (focused !== null) buttons().find((button) => name(button) === focused)?.focus({ preventScroll: true });
}
