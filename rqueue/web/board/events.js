// The last events of a queue.

import { get, queuePath } from "./api.js";
import { el } from "./dom.js";
import { time } from "./format.js";

const SHOWN = 100;
// Among so many of the newest, failed calls are looked for.
export const READ = 1000;

export class Events {
  #node; #list = el("ol", { class: "events" }); #shown = new Set(); #early = [];

  constructor(section) {
    this.#node = section.querySelector(".content");
    this.#node.append(this.#list);
  }

  // Read the newest anew. Returns them, oldest first.
  async read(type) {
    this.#early = [];
    const events = await get(`${queuePath(type, "events")}?limit=${READ}`);
    this.#list.replaceChildren();
    this.#shown = new Set();
    // Those that came while it was read may be newer than what was read.
    this.add([...events, ...this.#early]);
    return events;
  }

  add(events) {
    this.#early.push(...events);
    const once = [...new Map(events.map((event) => [event.id, event])).values()];
    const fresh = once.slice(-SHOWN).filter((event) => !this.#shown.has(event.id));
    this.#list.prepend(...fresh.reverse().map((event) => eventItem(event)));
    while (this.#list.childElementCount > SHOWN) this.#list.lastChild.remove();
    this.#early.splice(0, this.#early.length - SHOWN);
    this.#shown = new Set([...this.#shown, ...fresh.map((event) => event.id)].slice(-2 * SHOWN));
  }
}

const WORDS = { call_failed: "call failed" };

export function eventItem(event) {
  const item = el("li", { data: { what: event.what } },
    time(event.at),
    el("b", { text: WORDS[event.what] ?? event.what }),
    event.request_id ? el("span", { class: "id", text: event.request_id }) : null,
    el("span", { class: "how", text: how(event), title: event.what === "moved" ? `priority ${event.from} → ${event.to}` : null }),
    event.actor ? el("span", { class: "actor", text: `by ${event.actor}` }) : null,
  );
  return item;
}

function how({ what, from, to, why }) {
  if (what === "moved") return Number(to) < Number(from) ? "towards the front" : Number(to) > Number(from) ? "towards the back" : "among equals";
  const way = from && to ? `${from} → ${to}` : to ? `→ ${to}` : from;
  return [way, why].filter(Boolean).join(": ");
}
