// What happens in a queue, as server-sent events: handed over some at a time, resumed after a loss.

const GAP = 250;
const FIRST_WAIT = 500;
const LAST_WAIT = 15000;
const MOST = 5000;
const LONGEST_REST = 3000;

export class Live {
  #path; #source = null; #last = ""; #waiting = []; #timer = 0; #again = 0; #wait = FIRST_WAIT; #onEvents; #onState;

  // `onEvents` gets lists of events, or null where all is to be read anew; `onState` gets true or false.
  constructor(path, onEvents, onState) {
    this.#path = path;
    this.#onEvents = onEvents;
    this.#onState = onState;
  }

  open() {
    if (this.#source) return;
    clearTimeout(this.#again);
    const query = this.#last ? `?after=${encodeURIComponent(this.#last)}` : "";
    const source = (this.#source = new EventSource(this.#path + query));
    source.onopen = () => {
      this.#wait = FIRST_WAIT;
      this.#onState(true);
      // What was missed before it opened is nobody's event.
      this.#onEvents(null);
    };
    source.onmessage = (message) => this.#take(message);
    source.onerror = () => {
      this.#onState(false);
      this.#drop();
      // The browser's own way of trying again gives up at a 503.
      this.#again = setTimeout(() => this.open(), this.#wait * (0.5 + Math.random() / 2));
      this.#wait = Math.min(this.#wait * 2, LAST_WAIT);
    };
  }

  close() {
    clearTimeout(this.#again);
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#waiting = [];
    this.#wait = FIRST_WAIT;
    this.#drop();
  }

  #drop() {
    this.#source?.close();
    this.#source = null;
  }

  #take(message) {
    if (message.lastEventId) this.#last = message.lastEventId;
    let event;
    try {
      event = JSON.parse(message.data);
    } catch {
      return;
    }
    if (event.what === "missed" || this.#waiting.length >= MOST) this.#waiting = [null];
    else this.#waiting.push(event);
    this.#timer ||= setTimeout(() => {
      this.#timer = 0;
      const events = this.#waiting.splice(0);
      this.#onEvents(events.includes(null) ? null : events);
    }, GAP);
  }
}

// Runs `job` when asked to, one run at a time, at most once in `gap` ms and in four times what a run takes, but
// for one that took very long; what is asked for meanwhile is one run more.
export function paced(job, gap) {
  let running = false, asked = false, timer = 0, free = 0;
  async function run() {
    timer = 0;
    running = true;
    asked = false;
    const began = performance.now();
    try {
      await job();
    } finally {
      const took = performance.now() - began;
      free = performance.now() + Math.max(gap - took, Math.min(took * 3, LONGEST_REST));
      running = false;
      if (asked) request();
    }
  }
  function request() {
    asked = true;
    if (running || timer) return;
    timer = setTimeout(run, Math.max(0, free - performance.now()));
  }
  return request;
}
