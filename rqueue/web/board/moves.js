// Moves, and taking them back. A move that lost a race says so, and the line is read again.

import { ask, isAway, jobPath } from "./api.js";
import { at, say } from "./dom.js";

const REMEMBERED = 50;

export class Moves {
  #line; #say; #after; #done = []; #turn = Promise.resolve();

  // `tell` says something to people, `after` has the line read again.
  constructor(line, tell, after) {
    this.#line = line;
    this.#say = tell;
    this.#after = after;
    at("undo").addEventListener("click", () => this.undo());
  }

  // One after the other, as they were asked for: each begins where the last one ended.
  #inTurn(job) {
    return (this.#turn = this.#turn.then(job, job));
  }

  forget() {
    this.#done = [];
    this.#tellUndo();
  }

  front(id) { return this.#move(id, () => ({ position: "front" }), "to the front"); }
  back(id) { return this.#move(id, () => ({ position: "back" }), "to the back"); }

  up(id) {
    return this.#move(id, () => {
      const index = this.#line.indexOf(id);
      return between(this.#line.at(index - 2), this.#line.at(index - 1), "before");
    }, "up", "is the first already");
  }

  down(id) {
    return this.#move(id, () => {
      const index = this.#line.indexOf(id);
      return between(this.#line.at(index + 1), this.#line.at(index + 2), "after");
    }, "down", "is the last already");
  }

  // To where it was dropped: `after` and `before` are its new neighbours' names, where it has them.
  drop(id, after, before) {
    const body = {};
    if (after) body.after = after;
    if (before) body.before = before;
    const words = after && before ? `between ${after} and ${before}` : after ? `behind ${after}` : `before ${before}`;
    return this.#move(id, () => (after || before ? body : null), words);
  }

  // Wherever `body` says, as the API has it.
  to(id, body, words) { return this.#move(id, () => body, words); }

  #move(id, where, words, nowhere = "stays where it is") {
    return this.#inTurn(async () => {
      const type = this.#line.type;
      const body = where();
      if (!body) return this.#say(`${id} ${nowhere}.`);
      const job = this.#line.job(id);
      const [after, before] = this.#line.neighbours(id);
      try {
        await ask("POST", jobPath(type, id), body);
      } catch (error) {
        const words = isAway(error) ? "may not have been moved" : "was not moved";
        this.#say(`${id} ${words}: ${error.message}. The line is shown as it is now.`, true);
        await this.#after();
        return;
      }
      if (job) this.#done.push({ type, id, after, before, priority: job.Priority });
      if (this.#done.length > REMEMBERED) this.#done.shift();
      this.#tellUndo();
      await this.#after();
      const index = this.#line.filtered ? -1 : this.#line.indexOf(id);
      this.#say(`${id} moved ${words}${index < 0 ? "" : `; it is number ${index} now`}.`);
    });
  }

  // Put the job of the last move back between the neighbours it had; where they are no neighbours any more, by
  // the priority it had.
  undo() {
    return this.#inTurn(async () => {
      const last = this.#done.pop();
      this.#tellUndo();
      if (!last) return;
      const { type, id, after, before, priority } = last;
      const ways = [{ after, before }, { priority }].filter((way) => Object.values(way).some((value) => value !== undefined));
      let fault;
      for (const way of ways) {
        try {
          await ask("POST", jobPath(type, id), way);
          await this.#after();
          this.#say("priority" in way ? `${id} is back at its old priority, ${priority}; those it stood between have moved.` : `${id} is back where it was.`);
          return;
        } catch (error) {
          fault = error;
          if (error.status !== 409 || error.code === "illegal_transition") break;
        }
      }
      await this.#after();
      this.#say(`The move of ${id} cannot be taken back: ${fault.message}.`, true);
    });
  }

  #tellUndo() {
    const last = this.#done.at(-1);
    at("undo").disabled = !last;
    say(at("undo"), "Undo", last ? `Put ${last.id} back (Ctrl+Z)` : "");
  }
}

// Between two rows, or next to the one that is known. `side` is where the job goes of the nearer one, which is
// the second for "before", the first for "after".
function between(first, second, side) {
  if (side === "before" && !second) return null;
  if (side === "after" && !first) return null;
  const body = {};
  if (first) body.after = first.RequestID;
  if (second) body.before = second.RequestID;
  return body;
}
