// Words for numbers, moments and demands.

import { now } from "./api.js";
import { el } from "./dom.js";

const number = new Intl.NumberFormat("en");
const exact = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

export const count = (value) => number.format(value);
export const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

// A span of milliseconds in its two largest units: "3 h 5 min".
export function span(ms) {
  let seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const units = [["d", 86400], ["h", 3600], ["min", 60]];
  const first = units.findIndex(([, size]) => seconds >= size);
  const said = [];
  for (const [name, size] of units.slice(first, first + 2)) {
    const many = Math.floor(seconds / size);
    if (many) said.push(`${many} ${name}`);
    seconds -= many * size;
  }
  return said.join(" ");
}

export const age = (moment) => span(now() - Date.parse(moment));
export const moment = (written) => exact.format(new Date(written));

export function ago(written) {
  const passed = now() - Date.parse(written);
  if (passed < -1500) return `in ${span(-passed)}`;
  return passed < 1500 ? "now" : `${span(passed)} ago`;
}

// A time that goes on counting (see tick): `form` is ago or age.
export function time(written, form = "ago", title = "") {
  const node = el("time", { datetime: written, "data-form": form });
  return setTime(node, written, title);
}

export function setTime(node, written, title = "") {
  if (node.dateTime !== written) node.dateTime = written;
  const said = node.dataset.form === "age" ? age(written) : ago(written);
  if (node.textContent !== said) node.textContent = said;
  const whole = title || moment(written);
  if (node.title !== whole) node.title = whole;
  return node;
}

export function tick() {
  for (const node of document.querySelectorAll("time[data-form]")) {
    node.textContent = node.dataset.form === "age" ? age(node.dateTime) : ago(node.dateTime);
  }
}

const SUFFIXES = { m: 1e-3, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, Pi: 2 ** 50 };

// An amount as a number: integers, and the quantities of Kubernetes.
export function amount(written) {
  if (typeof written === "number") return written;
  const [, digits, suffix] = /^([0-9.]+(?:e[0-9]+)?)([A-Za-z]*)$/.exec(String(written)) ?? [];
  return Number(digits ?? 0) * (suffix ? (SUFFIXES[suffix] ?? 0) : 1);
}

const ORDER = ["vcpu", "cpu", "memory", "disk"];
const place = (name) => (ORDER.indexOf(name.toLowerCase()) + 1 || ORDER.length + 1);
export const byResource = (a, b) => place(a) - place(b) || (a < b ? -1 : 1);

// Pools count Memory in MiB, as OpenStack does; "memory" is Kubernetes's, in bytes.
export function quantity(name, written) {
  const value = amount(written);
  if (name === "Memory" && value >= 1024) return `${trim(value / 1024)} GiB`;
  if (name === "Memory") return `${count(value)} MiB`;
  if (name === "memory" && value >= 2 ** 20) return value >= 2 ** 30 ? `${trim(value / 2 ** 30)} GiB` : `${trim(value / 2 ** 20)} MiB`;
  if (name === "Disk") return `${count(value)} GB`;
  if (name === "slots") return plural(value, "slot");
  return `${count(value)} ${name}`;
}

const trim = (value) => number.format(Math.round(value * 10) / 10);

// The instances of a job: a list of resource → amount.
export function instances(job) {
  try {
    const found = JSON.parse(job.Data).instances;
    if (Array.isArray(found) && found.length) return found;
  } catch {
    // Data that a hand edit broke is shown as it is, elsewhere.
  }
  return [{ slots: 1 }];
}

// "2 × 4 VCPU, 8 GiB; 1 VCPU"
export function demand(job) {
  const runs = new Map();
  for (const one of instances(job)) {
    const names = Object.keys(one ?? {}).sort(byResource);
    const said = names.map((name) => quantity(name, one[name])).join(", ");
    runs.set(said, (runs.get(said) ?? 0) + 1);
  }
  return [...runs].map(([said, many]) => (many > 1 ? `${many} × ${said}` : said)).join("; ");
}

export function pool(job) {
  try {
    return JSON.parse(job.Data).host_aggregate ?? "";
  } catch {
    return "";
  }
}

const CODES = {
  paused: "paused", no_pool: "no such pool", source_stale: "source not read", over_quota: "over quota",
  never_fits: "never fits", waiting_for_capacity: "next", behind: "behind",
};

// A Reason as its code, a word for it, and the words after its colon.
export function reason(job) {
  const [code, ...words] = (job.Reason ?? "").split(": ");
  return { code, short: CODES[code] ?? code, words: words.join(": ") };
}
