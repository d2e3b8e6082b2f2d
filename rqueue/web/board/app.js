// The board: who asks, which queue, and what is read again when something has happened in it.

import { Refused, ask, get, isAway, jobPath, listPath, login, logout, queuePath, session, whenUnknown } from "./api.js";
import { details } from "./details.js";
import { anotherPlace, confirmed, help } from "./dialogs.js";
import { at, el, say } from "./dom.js";
import { draggable } from "./drag.js";
import { Events } from "./events.js";
import { count, tick } from "./format.js";
import { listen } from "./keys.js";
import { Line } from "./line.js";
import { Live, paced } from "./live.js";
import { Moves } from "./moves.js";
import { showPools } from "./pools.js";
import { Deliveries, readLive, showRunning } from "./running.js";

const LINE_MS = 250;
const SIDE_MS = 1000;
const AGAIN_MS = 10_000;
const AWAY_MS = 2000;
const TYPING_MS = 300;

const can = {};
let line, moves, events, deliveries, live, type = "", queue = null, isOpen = false, isAsked = false;

function tell(words, isBad = false) {
  const said = at("said");
  said.classList.toggle("bad", isBad);
  say(said, words);
}

// --- connection ----------------------------------------------------------------------------------

let streaming = false, answering = true, retry = 0;

function tellConnection() {
  const state = streaming && answering ? "live" : "away";
  const node = at("connection");
  if (node.dataset.state !== state) node.dataset.state = state;
  say(at("connection-said"), state === "live" ? "Live" : !type ? "No queue yet" : answering ? "Not live, trying again…" : "Out of reach, trying again…");
}

// Do what asks the service. Where it is away that is said, and all is read again when it is back.
async function trying(job) {
  try {
    await job();
    if (!answering) {
      answering = true;
      // The stream of before may be dead, and nobody was told.
      live?.close();
      if (!document.hidden) live?.open();
      all();
    }
  } catch (error) {
    if (error.status === 401) return;
    if (isAway(error)) {
      answering = false;
      clearTimeout(retry);
      retry = setTimeout(() => refreshLine(), AWAY_MS);
    } else if (error instanceof Refused) tell(error.message, true);
    else throw error;
  }
  tellConnection();
}

// --- what is read again --------------------------------------------------------------------------

const readLine = () => trying(async () => {
  await line.refresh();
  if (line.filtered && can.queues) showQueue(await get(queuePath(type)));
});
const refreshLine = paced(readLine, LINE_MS);

const refreshSide = paced(() => trying(async () => {
  if (!type) return;
  const asked = type;
  const found = await readLive(asked);
  if (asked !== type) return;
  showRunning(at("running"), found, act, can);
  deliveries.show(found.calling);
  if (can.queues && queue) await showPools(at("pools"), asked, queue.pools, found);
}), SIDE_MS);

const refreshQueues = paced(() => trying(showQueues), SIDE_MS);

const readEvents = paced(() => trying(async () => {
  if (!type) return;
  deliveries.learn(await events.read(type));
  deliveries.show();
}), LINE_MS);

function all() {
  refreshLine();
  refreshSide();
  refreshQueues();
  readEvents();
}

function happened(found) {
  if (found === null) return all();
  events.add(found);
  deliveries.learn(found);
  refreshLine();
  refreshSide();
}

// --- queues --------------------------------------------------------------------------------------

async function showQueues() {
  const queues = can.queues ? await get("/queues/") : (can.types ?? []).map((name) => ({ type: name }));
  const options = queues.map((one) => one.type);
  if (type && !options.includes(type)) options.push(type);
  const counts = new Map(queues.map((one) => [one.type, one.counts]));
  const picker = at("queue");
  picker.disabled = options.length === 0;
  const words = options.map((name) => (counts.get(name) ? `${name} (${count(counts.get(name).queued)} waiting, ${count(counts.get(name).running)} running)` : name));
  if (options.join("\n") !== [...picker.options].map((one) => one.value).join("\n")) {
    picker.replaceChildren(...options.map((name, index) => el("option", { value: name, text: words[index] })));
    picker.value = type;
  } else words.forEach((text, index) => say(picker.options[index], text));
  if (!type && options.length) choose(wanted(options));
  else if (!type) tell(can.queues ? "There is no queue yet: the first job makes one." : "Name a queue at the end of this page's address: #queue=<type>.");
}

function wanted(options) {
  const named = new URLSearchParams(location.hash.slice(1)).get("queue");
  return named ?? options[0];
}

function showQueue(found) {
  const before = queue;
  queue = found;
  const { counts, paused } = found;
  say(at("counts"), `${count(counts.queued)} waiting, ${count(counts.running)} running${paused ? ", paused" : ""}`);
  const pause = at("pause");
  pause.hidden = !can.pause;
  say(pause, paused ? "Resume" : "Pause", paused ? "Admit jobs again" : "Admit nobody until it is resumed");
  document.body.classList.toggle("paused", paused);
  if (before?.pools.join("\n") !== found.pools.join("\n")) refreshSide();
}

function choose(name) {
  live?.close();
  type = name;
  queue = null;
  streaming = false;
  at("queue").value = name;
  document.title = `${name} – rqueue`;
  history.replaceState(null, "", `#${new URLSearchParams({ queue: name })}`);
  tell("");
  moves.forget();
  deliveries.forget();
  live = new Live(queuePath(name, "events"), happened, (isLive) => {
    streaming = isLive;
    tellConnection();
    if (!isLive) refreshLine();
  });
  if (!document.hidden) live.open();
  trying(() => line.show(name, filters()));
  all();
}

function filters() {
  return { owner_id: at("owner").value, status: at("status").value, search: at("search").value };
}

function filter() {
  const { owner_id, status, search } = filters();
  at("clear").hidden = !owner_id && !search && status === "queued";
  say(at("line-title"), at("status").value === "queued" ? "Waiting line" : `Jobs: ${at("status").selectedOptions[0].text}`);
  if (type) trying(() => line.show(type, filters()));
}

// --- what people do ------------------------------------------------------------------------------

const ACTS = {
  front: (id) => moves.front(id),
  back: (id) => moves.back(id),
  up: (id) => moves.up(id),
  down: (id) => moves.down(id),
  to: (id) => moveTo(id),
  details: (id) => details(type, id, tell, actsOf),
  cancel: (id) => end(id, `Cancel ${id}?`, "It leaves the line for good; this cannot be taken back.", "Cancel the job", "cancelled"),
  end: (id) => end(id, `End ${id}?`, "What it holds is given to the next, whether or not its owner still uses it.", "End the job", "ended"),
  call: (id) => change(id, { status: "calling" }, "is called now"),
  requeue: (id) => change(id, { status: "queued" }, "is back in line, at its old place"),
  filter: (status) => { at("status").value = status; filter(); at("line-title").scrollIntoView({ block: "nearest" }); },
};

function act(name, id) {
  const needs = { front: can.move, back: can.move, up: can.move, down: can.move, to: can.move, cancel: can.end, end: can.end };
  if (needs[name] === false || (["up", "down", "front", "back", "to"].includes(name) && at("status").value !== "queued")) return;
  if (name === "cancel" && line.job(id)?.Status !== "queued") name = "end";
  trying(() => ACTS[name](id));
}

// What can be done with a job from its details: pairs of words and what they do.
function actsOf(job) {
  const id = job.RequestID;
  const offer = (words, name) => [words, () => act(name, id)];
  const status = job.Status;
  if (status === "queued") return can.end ? [offer("Cancel…", "cancel")] : [];
  if (!can.end) return [];
  if (status === "calling") return [offer("Call now", "call"), offer("End…", "end")];
  if (status === "running") return [offer("Back in line", "requeue"), offer("End…", "end")];
  return status === "failed" || status === "expired" ? [offer("Back in line", "requeue")] : [];
}

async function change(id, body, words) {
  await asking(id, words, () => ask("POST", jobPath(type, id), body));
}

async function end(id, title, words, action, done) {
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
    refreshLine();
    refreshSide();
  }
}

async function moveTo(id) {
  const place = await anotherPlace(id, queue?.counts.queued ?? line.total);
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

// --- beginning -----------------------------------------------------------------------------------

async function start() {
  let found;
  try {
    found = await session();
  } catch (error) {
    if (error.status === 401) return askWho();
    at("connection").dataset.state = "away";
    say(at("connection-said"), "Out of reach, trying again…");
    setTimeout(start, AWAY_MS);
    return;
  }
  can.move = found.rights.includes("move jobs");
  can.end = found.rights.includes("create, confirm and end jobs");
  can.pause = found.rights.includes("pause queues");
  can.queues = found.rights.includes("read queues");
  can.whole = found.owners === null;
  can.types = found.types;
  at("who").hidden = at("logout").hidden = !found.csrf;
  say(at("who"), found.csrf ? `${found.name}, ${found.role}` : "");
  at("login").hidden = true;
  at("board").hidden = false;
  at("pools").hidden = !can.queues;
  at("undo").hidden = !can.move;
  if (!isOpen) build();
  isOpen = true;
  isAsked = false;
  const named = new URLSearchParams(location.hash.slice(1)).get("queue");
  if (type) choose(type);
  else if (named) choose(named);
  refreshQueues();
}

function askWho() {
  if (isAsked) return;
  isAsked = true;
  live?.close();
  at("board").hidden = true;
  at("pause").hidden = at("logout").hidden = at("who").hidden = true;
  at("login").hidden = false;
  say(at("connection-said"), "Not logged in");
  at("token").focus();
}

function build() {
  line = new Line(can);
  line.onFault = (error) => trying(() => Promise.reject(error));
  line.onQueue = showQueue;
  moves = new Moves(line, tell, readLine);
  events = new Events(at("events"));
  deliveries = new Deliveries(at("deliveries"), act, can);
  if (can.move) draggable(line, (id, after, before) => moves.drop(id, after, before));
  listen(line, act, () => can.move && moves.undo(), help);
  line.rows.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-act]");
    if (button) act(button.dataset.act, button.closest("[data-request-id]").dataset.requestId);
  });
  at("queue").addEventListener("change", (event) => choose(event.target.value));
  at("help").addEventListener("click", help);
  at("pause").addEventListener("click", () => trying(async () => {
    const found = (await ask("PUT", queuePath(type), { paused: !queue.paused })).data;
    showQueue(found);
    tell(found.paused ? `${type} is paused: nobody is admitted.` : `${type} goes on.`);
    refreshLine();
  }));
  let typing = 0;
  const typed = () => { clearTimeout(typing); typing = setTimeout(filter, TYPING_MS); };
  for (const name of ["owner", "search"]) at(name).addEventListener("input", typed);
  at("status").addEventListener("change", filter);
  at("filters").addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(typing); filter(); });
  at("clear").addEventListener("click", () => { at("filters").reset(); filter(); at("search").focus(); });
  at("filtering").addEventListener("click", () => {
    const isOpen = at("filters").classList.toggle("open");
    at("filtering").setAttribute("aria-expanded", isOpen);
  });
  at("stop").addEventListener("click", () => { line.halt(); tell("Stopped: there may be more. Enter in the search field looks anew."); });
  at("logout").addEventListener("click", () => trying(async () => { await logout(); askWho(); }));
  document.addEventListener("visibilitychange", () => {
    // A browser has few connections to one place, and nobody looks.
    if (document.hidden) live?.close();
    else if (live) { live.open(); tick(); }
  });
  window.addEventListener("hashchange", () => {
    const named = new URLSearchParams(location.hash.slice(1)).get("queue");
    if (named && named !== type) choose(named);
  });
  setInterval(tick, 1000);
  // Reasons and estimates change with time alone, and keys that are edited by hand tell nobody.
  setInterval(() => {
    if (document.hidden || isAsked) return;
    refreshQueues();
    refreshLine();
    refreshSide();
  }, AGAIN_MS);
}

at("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  say(at("login-error"), "");
  try {
    await login(at("token").value);
    at("token").value = "";
    isAsked = false;
    await start();
  } catch (error) {
    say(at("login-error"), error.message);
    at("token").select();
  }
});
whenUnknown(askWho);
start();
