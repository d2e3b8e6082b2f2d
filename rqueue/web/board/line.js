// The line: only the rows that are seen, and some around them, are read and drawn.
//
// Without a filter a row's place is its Position, and any part of the line is read by it. With one, the jobs
// found so far are a list, which grows as one scrolls.

import { ask, listPath } from "./api.js";
import { at, say } from "./dom.js";
import { plural } from "./format.js";
import { blankRow, makeRow, updateRow } from "./row.js";

const AROUND = 20;
const MOST = 200;
const PAGE = 100;
// What a page of a search has looked at when it is not full.
const LOOKED = 1000;
// Browsers draw nothing beyond some 16 million pixels.
const TALLEST = 15_000_000;
// A filtered list is read again as a whole while that takes so few answers.
const FEW = 3;
// Of rows that are narrower, in pixels, a part is left out.
const NARROW = 850;

export class Line {
  #grid = at("line"); #runway = this.#grid.querySelector(".runway"); #window = this.#grid.querySelector(".window");
  #rows = new Map(); #jobs = []; #start = 0; #total = 0; #cursor = null; #looked = 0; #reading = null; #filling = null; #frozen = false;
  #active = ""; #frame = 0; #wanted = 0; #answers = 0; #goal = -1; #lastIndex = 0; #halted = false;

  // `can` is {move, end, queues, whole}: what the session may do, and whether it sees the whole line.
  constructor(can) {
    this.can = can;
    this.type = "";
    this.filters = { owner_id: "", status: "queued", search: "" };
    this.#grid.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.#grid.addEventListener("focusin", (event) => this.#focused(event));
    new ResizeObserver(() => this.#resized()).observe(this.#grid);
  }

  // A row in somebody's hand hangs from the page itself, so it is the page that is narrow.
  #resized() {
    document.body.classList.toggle("narrow", this.#grid.clientWidth < NARROW);
    this.#scrolled();
  }

  get filtered() {
    const { owner_id, status, search } = this.filters;
    return !this.can.whole || !this.can.queues || owner_id !== "" || search !== "" || status !== "queued";
  }
  get height() { return parseFloat(getComputedStyle(this.#grid).getPropertyValue("--row")); }
  get rows() { return this.#window; }
  get ids() { return this.#jobs.map((job) => job?.RequestID); }
  job(id) { return this.#jobs.find((job) => job?.RequestID === id); }
  indexOf(id) { const found = this.#jobs.findIndex((job) => job?.RequestID === id); return found < 0 ? -1 : this.#start + found; }
  at(index) { return this.#jobs[index - this.#start]; }
  get total() { return this.#total; }

  // Those before and after a job where that is known: [id or undefined, id or undefined].
  neighbours(id) {
    const index = this.indexOf(id);
    return [this.at(index - 1)?.RequestID, this.at(index + 1)?.RequestID];
  }

  show(type, filters) {
    this.type = type;
    this.filters = filters;
    this.#jobs = [];
    this.#start = this.#total = this.#looked = 0;
    this.#cursor = "";
    this.#active = "";
    this.#answers = 0;
    this.#goal = -1;
    this.#halted = false;
    this.#grid.scrollTop = 0;
    this.stop();
    this.#draw();
    return this.refresh();
  }

  // While a row is in somebody's hand nothing moves under it.
  freeze(frozen) {
    this.#frozen = frozen;
    if (!frozen) this.#draw();
  }

  // --- reading -----------------------------------------------------------------------------------

  // Read again what is seen. Throws Refused.
  async refresh() {
    if (!this.type) return;
    if (this.filtered) {
      if (this.#filling) return;
      if (this.#answers <= FEW && !this.#halted) await this.#fill(Math.max(this.#jobs.length, PAGE));
      else await this.#readAgain();
      return;
    }
    this.#reading?.abort();
    const reading = (this.#reading = new AbortController());
    const [first, last] = this.#seen();
    const start = Math.max(0, first - AROUND);
    const limit = Math.min(MOST, last - start + AROUND);
    try {
      const [queue, page] = await Promise.all([
        ask("GET", `/queues/${encodeURIComponent(this.type)}`, undefined, reading.signal),
        ask("GET", listPath(this.type, { status: "queued", position: start, limit, standing: true }), undefined, reading.signal),
      ]);
      if (reading !== this.#reading) return;
      // The last page tells the end better than a count of another moment.
      const end = start + page.data.length;
      const ended = page.next === null && (page.data.length > 0 || start === 0);
      this.#put(start, page.data, ended ? end : Math.max(queue.data.counts.queued, end));
      this.onQueue?.(queue.data);
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  }

  // Read a filtered list from its beginning, so many of it.
  async #fill(most) {
    const found = [];
    const status = this.filters.status;
    let cursor = "";
    this.#looked = this.#answers = 0;
    const filling = (this.#filling = new AbortController());
    try {
      while (found.length < most) {
        const page = await this.#page(cursor, status, filling.signal);
        this.#answers++;
        found.push(...page.data);
        cursor = page.next;
        this.#put(0, found.length >= this.#jobs.length || !cursor ? [...found] : this.#jobs, Math.max(found.length, cursor ? this.#total : 0));
        if (!cursor) break;
        this.#tellProgress(found.length);
      }
      this.#cursor = cursor;
    } catch (error) {
      if (error.name !== "AbortError") throw error;
      if (filling !== this.#filling && this.#filling) return;
      this.#cursor = cursor;
    } finally {
      if (this.#filling === filling) this.#filling = null;
      at("progress").hidden = true;
    }
    this.#put(0, this.#jobs, this.#jobs.length);
  }

  async #more() {
    if (this.#filling || !this.#cursor || this.#halted) return;
    const filling = (this.#filling = new AbortController());
    try {
      const before = this.#jobs.length;
      while (this.#cursor && this.#jobs.length === before) {
        const page = await this.#page(this.#cursor, this.filters.status, filling.signal);
        this.#answers++;
        const known = new Set(this.ids);
        this.#cursor = page.next;
        const jobs = [...this.#jobs, ...page.data.filter((job) => !known.has(job.RequestID))];
        this.#put(0, jobs, jobs.length);
        if (this.#cursor) this.#tellProgress(jobs.length);
      }
    } catch (error) {
      if (error.name !== "AbortError") this.onFault?.(error);
    } finally {
      if (this.#filling === filling) this.#filling = null;
      at("progress").hidden = true;
    }
  }

  #page(cursor, status, signal) {
    const live = status === "queued" || status === "calling";
    return ask("GET", listPath(this.type, { ...this.filters, cursor, limit: PAGE, standing: live ? "true" : "" }), undefined, signal);
  }

  // Of a long filtered list only those in sight.
  async #readAgain() {
    const [first, last] = this.#seen();
    const live = new Map();
    await Promise.all(this.#jobs.slice(first, last).map(async (job) => {
      try {
        live.set(job.RequestID, (await ask("GET", `/v1/${encodeURIComponent(this.type)}/${encodeURIComponent(job.RequestID)}`)).data);
      } catch (error) {
        if (error.status !== 404) throw error;
        live.set(job.RequestID, null);
      }
    }));
    const jobs = this.#jobs.map((job) => (live.has(job.RequestID) ? live.get(job.RequestID) : job)).filter((job) => job?.Status === this.filters.status);
    this.#put(0, jobs, jobs.length);
  }

  stop() {
    this.#reading?.abort();
    this.#filling?.abort();
    this.#filling = null;
    at("progress").hidden = true;
  }

  // Look no further, until something else is looked for.
  halt() {
    this.#halted = true;
    this.stop();
  }

  #tellProgress(found) {
    this.#looked += LOOKED;
    at("progress").hidden = false;
    say(at("progress-said"), `${plural(found, "job")} found, ${this.filters.search ? `some ${this.#looked.toLocaleString("en")} looked at` : "looking on"}`);
  }

  // --- drawing -----------------------------------------------------------------------------------

  #seen() {
    const height = this.height;
    const first = Math.floor(this.#grid.scrollTop / height);
    return [first, first + Math.ceil(this.#grid.clientHeight / height) + 1];
  }

  #put(start, jobs, total) {
    const shift = this.#grid.scrollTop > 0 ? this.#shiftTo(start, jobs) : 0;
    this.#start = start;
    this.#jobs = jobs;
    this.#total = total;
    if (this.#frozen) return;
    this.#draw();
    if (shift) {
      this.#grid.scrollTop += shift * this.height;
      this.#draw();
    }
  }

  // By how many places those that are seen have moved: the middle of what each of them did, since one may
  // have gone far by itself.
  #shiftTo(start, jobs) {
    const places = new Map(jobs.map((job, index) => [job.RequestID, start + index]));
    const [first, last] = this.#seen();
    const shifts = [];
    for (let index = first; index < last; index++) {
      const place = places.get(this.at(index)?.RequestID);
      if (place !== undefined) shifts.push(place - index);
    }
    return shifts.sort((a, b) => a - b)[Math.floor(shifts.length / 2)] ?? 0;
  }

  #scrolled() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      if (this.#frozen) return;
      this.#draw();
      const [first, last] = this.#seen();
      const missing = first < this.#start || Math.min(last, this.#total) > this.#start + this.#jobs.length;
      if (this.filtered) {
        if (last + AROUND > this.#jobs.length) this.#more();
      } else if (missing && this.#total) {
        clearTimeout(this.#wanted);
        this.#wanted = setTimeout(() => this.refresh().catch((error) => this.onFault?.(error)), 60);
      }
    });
  }

  #draw() {
    if (this.#frozen) return;
    const height = this.height;
    const shown = Math.min(this.#total, Math.floor(TALLEST / height));
    this.#runway.style.height = `${shown * height}px`;
    this.#grid.setAttribute("aria-rowcount", this.filtered && this.#cursor ? -1 : this.#total + 1);
    const [first, last] = this.#seen();
    const from = Math.max(0, Math.min(first, shown) - AROUND);
    const to = Math.min(shown, last + AROUND);
    this.#window.style.transform = `translateY(${from * height}px)`;
    const focused = this.#window.contains(document.activeElement) ? document.activeElement : null;
    const kept = new Set();
    let next = this.#window.firstChild;
    for (let index = from; index < to; index++) {
      const row = this.#rowOf(index);
      kept.add(row);
      if (row === next) next = next.nextSibling;
      else this.#window.insertBefore(row, next);
    }
    for (const row of [...this.#window.children]) if (!kept.has(row)) row.remove();
    for (const [id, row] of this.#rows) if (!kept.has(row)) this.#rows.delete(id);
    this.#keepFocus(focused, from, to);
    this.#tellEmpty();
    if (this.#goal >= 0 && this.at(this.#goal)) this.#reach();
  }

  // The row that one went to is there.
  #reach() {
    const id = this.at(this.#goal).RequestID;
    this.#goal = -1;
    this.#activate(id);
    this.#lastIndex = this.indexOf(id);
    this.#rows.get(id)?.focus({ preventScroll: true });
  }

  #rowOf(index) {
    const job = this.at(index);
    if (!job) return blankRow(index);
    let row = this.#rows.get(job.RequestID);
    if (!row) this.#rows.set(job.RequestID, (row = makeRow(job.RequestID, this.can)));
    updateRow(row, job, index);
    return row;
  }

  #tellEmpty() {
    const empty = this.#grid.querySelector(".empty");
    empty.hidden = this.#total > 0 || !!this.#filling;
    say(empty, this.filtered ? "No job is like this." : "Nobody waits.");
  }

  // --- focus -------------------------------------------------------------------------------------

  #focused(event) {
    const id = event.target.closest("[data-request-id]")?.dataset.requestId;
    if (id) this.#activate(id);
  }

  // One row at a time is reached by Tab, and from it its buttons.
  #activate(id) {
    this.#active = id;
    for (const [other, row] of this.#rows) {
      const index = other === id ? "0" : "-1";
      if (row.getAttribute("tabindex") === index) continue;
      row.setAttribute("tabindex", index);
      for (const button of row.querySelectorAll("button")) button.setAttribute("tabindex", index);
    }
  }

  #keepFocus(focused, from, to) {
    if (!this.#rows.has(this.#active)) {
      const near = this.at(Math.max(from, Math.min(this.#lastIndex ?? from, to - 1)));
      this.#activate(near?.RequestID ?? this.#rows.keys().next().value ?? "");
    } else this.#activate(this.#active);
    this.#lastIndex = this.indexOf(this.#active);
    if (!focused || document.activeElement === focused || this.#goal >= 0) return;
    // A row that was put elsewhere, or is gone, took the focus with it.
    const there = this.#window.contains(focused) ? focused : this.#rows.get(this.#active);
    there?.focus({ preventScroll: true });
  }

  // Focus the row at an index, as far away as it may be.
  focusAt(index) {
    this.#goal = index = Math.max(0, Math.min(index, this.#total - 1));
    const height = this.height;
    const top = index * height;
    const head = this.#grid.querySelector(".head").offsetHeight;
    const room = this.#grid.clientHeight - head - height;
    if (top < this.#grid.scrollTop) this.#grid.scrollTop = top;
    else if (top > this.#grid.scrollTop + room) this.#grid.scrollTop = top - room;
    this.#draw();
  }

  get pageRows() { return Math.max(1, Math.floor(this.#grid.clientHeight / this.height) - 2); }
}
