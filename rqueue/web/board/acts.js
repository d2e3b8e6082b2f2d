// What people do to a job, by its buttons, its keys and from all about it.

import { ask, get, isAway, jobPath, listPath } from "./api.js";
import { details } from "./details.js";
import { anotherPlace, confirmed } from "./dialogs.js";
import { at } from "./dom.js";
import { count } from "./format.js";

const MOVES = ["front", "back", "up", "down", "to"];

// `can` is what the session may do, `tell` says something, `changed` has what is shown read again, `filter` shows
// the jobs of a status. Returns what does something of a name to a job.
export function actsOn({ line, moves, can, tell, changed, filter }) {
  const acts = {
    front: (id) => moves.front(id),
    back: (id) => moves.back(id),
    up: (id) => moves.up(id),
    down: (id) => moves.down(id),
    to: moveTo,
    details: (id) => details(line.type, id, tell, offered),
    cancel: (id) => end(id, `Cancel ${id}?`, "It leaves the line for good; this cannot be taken back.", "Cancel the job", "cancelled"),
    end: (id) => end(id, `End ${id}?`, "What it holds is given to the next, whether or not its owner still uses it.", "End the job", "ended"),
    call: (id) => change(id, { status: "calling" }, "is called now"),
    requeue: (id) => change(id, { status: "queued" }, "is back in line, at its old place"),
    filter: (status) => { filter(status); at("line-title").scrollIntoView({ block: "nearest" }); },
  };

  function act(name, id) {
    const isMove = MOVES.includes(name);
    if (isMove && !(can.move && line.filters.status === "queued")) return;
    if (["cancel", "end", "call", "requeue"].includes(name) && !can.end) return;
    const status = line.job(id)?.Status;
    if (name === "cancel" && status && status !== "queued") name = "end";
    return acts[name](id);
  }

  // What can be done with a job in its status: pairs of words and what they do.
  function offered({ RequestID: id, Status: status }) {
    const offer = (words, name) => [words, () => act(name, id)];
    const offers = {
      queued: [offer("Cancel…", "cancel")],
      calling: [offer("Call now", "call"), offer("End…", "end")],
      running: [offer("Back in line", "requeue"), offer("End…", "end")],
      failed: [offer("Back in line", "requeue")],
      expired: [offer("Back in line", "requeue")],
    };
    return (can.end && offers[status]) || [];
  }

  const change = (id, body, words) => asking(id, words, () => ask("POST", jobPath(line.type, id), body));

  async function end(id, title, words, action, done) {
    const { type } = line;
    if (await confirmed(title, words, action)) await asking(id, `is ${done}`, () => ask("DELETE", jobPath(type, id)));
  }

  async function asking(id, words, request) {
    try {
      await request();
      tell(`${id} ${words}.`);
    } catch (error) {
      if (isAway(error)) throw error;
      tell(`Nothing was done with ${id}: ${error.message}. What is shown is how it is now.`, true);
    } finally {
      changed();
    }
  }

  async function moveTo(id) {
    const { type } = line;
    const place = await anotherPlace(id);
    if (!place) return;
    const [kind, value] = place;
    if (kind !== "position") return moves.to(id, { [kind]: value }, `${kind === "after" ? "behind" : "before"} ${value}`);
    const [there] = (await ask("GET", listPath(type, { status: "queued", position: value, limit: 1 }))).data;
    const { Position: own } = await get(jobPath(type, id));
    if (!there) return moves.back(id);
    if (there.RequestID === id) return tell(`${id} is there already.`);
    // Those behind its old place come one nearer.
    return moves.to(id, { [own < value ? "after" : "before"]: there.RequestID }, `to position ${count(value)}`);
  }

  return act;
}
