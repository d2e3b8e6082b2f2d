// The last events of a queue.

import { get, queuePath } from "./api.js";
import { el } from "./dom.js";
import { time } from "./format.js";

const SHOWN = 100;
// Among so many of the newest, failed calls are looked for.
export const READ = 1000;

export class Events {
  #node; #list = el("ol", { class: "events" });

  constructor(section) {
    this.#node = section.querySelector(".content");
    this.#node.append(this.#list);
  }

  // Read the newest anew. Returns them, oldest first.
  async read(type) {
    const events = await get(`${queuePath(type, "events")}?limit=${READ}`);
    this.#list.replaceChildren(...events.slice(-SHOWN).reverse().map((event) => eventItem(event)));
    return events;
  }

  add(events) {
    this.#list.prepend(...events.slice(-SHOWN).reverse().map((event) => eventItem(event)));
    while (this.#list.childElementCount > SHOWN) this.#list.lastChild.remove();
  }
}

const WORDS = { call_failed: "call failed" };

export function eventItem(event) {
  const item = el("li", { data: { what: event.what } },
    time(event.at),
    el("b", { text: WORDS[event.what] ?? event.what }),
    event.request_id ? el("span", { class: "id", text: event.request_id }) : null,
    el("span", { class: "how", text: how(event) }),
    event.actor ? el("span", { class: "actor", text: `by ${event.actor}` }) : null,
  );
  return item;
}

function how({ from, to, why }) {
  const way = from && to ? `${from} → ${to}` : to ? `→ ${to}` : from;
  return [way, why].filter(Boolean).join(": ");
}
