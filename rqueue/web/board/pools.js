// A picture of each pool: its hosts, filled by owner; the same as a table for who does not see it.

import { get, queuePath } from "./api.js";
import { colour } from "./colours.js";
import { el } from "./dom.js";
import { amount, byResource, count, instances, plural, pool as poolOf, quantity, time } from "./format.js";
import { replace } from "./running.js";

const POOLS = 20;
const HOSTS = 200;
// With more hosts than this each has one bar, of the resource that is scarcest there.
const ROOMY = 24;
const BARS = 3;
const OWNERS = 10;

// Read and show the pools of a queue; `live` is what readLive answered.
export async function showPools(section, type, names, live) {
  const opened = new Set([...section.querySelectorAll("details[open]")].map((node) => node.dataset.pool));
  const found = await Promise.all(names.slice(0, POOLS).map((name) => get(queuePath(type, "pools", name)).catch((error) => ({ name, error: error.message }))));
  const held = holdings(live);
  const cards = found.map((pool, index) => card(names[index], pool, held.get(names[index]) ?? new Map(), opened));
  replace(section, [
    ...cards,
    names.length ? null : el("p", { class: "nothing", text: "No pool is declared, so nobody is admitted." }),
    names.length > POOLS ? el("p", { class: "nothing", text: `${count(names.length - POOLS)} more pools are not shown.` }) : null,
  ]);
}

// pool → host → resource → owner → amount, from the jobs that are known.
function holdings({ running, calling }) {
  const pools = new Map();
  const below = (map, key) => map.get(key) ?? map.set(key, new Map()).get(key);
  for (const job of [...running, ...calling]) {
    const hosts = below(pools, poolOf(job));
    instances(job).forEach((shape, index) => {
      const host = job.Placement?.[index];
      if (!host) return;
      for (const [name, written] of Object.entries(shape)) {
        const owners = below(below(hosts, host), name);
        owners.set(job.OwnerID, (owners.get(job.OwnerID) ?? 0) + amount(written));
      }
    });
  }
  return pools;
}

function card(name, pool, held, opened) {
  const title = el("h3", {}, el("span", { text: name }), " ", el("small", { text: pool.hosts ? `${plural(Object.keys(pool.hosts).length, "host")}, ${count(pool.waiting)} waiting` : "" }));
  if (!pool.hosts) return el("article", { class: "pool" }, title, el("p", { class: "error", text: pool.error }));
  const hosts = Object.entries(pool.hosts);
  const roomy = hosts.length <= ROOMY;
  const shown = hosts.slice(0, HOSTS).map(([host, amounts]) => barsOf(host, amounts, held.get(host) ?? new Map(), roomy));
  const owners = [...new Set([...held.values()].flatMap((resources) => [...resources.values()].flatMap((all) => [...all.keys()])))].sort();
  return el("article", { class: "pool" }, title, source(pool),
    el("ul", { class: roomy ? "hosts" : "hosts dense", "aria-hidden": "true" }, ...shown),
    hosts.length > HOSTS ? el("p", { class: "nothing", text: `${count(hosts.length - HOSTS)} more hosts are in the table only.` }) : null,
    legend(owners),
    quotas(pool),
    table(name, hosts, held, opened.has(name)));
}

function source(pool) {
  if (!pool.source) return null;
  const fault = pool.error ? el("span", { class: "error", text: ` ${pool.error}` }) : null;
  return el("p", { class: "source" }, pool.observed ? "Seen by its source " : "Not seen yet by its source", pool.observed ? time(pool.observed) : null, fault);
}

function fill(amounts, name, held) {
  const capacity = amount(amounts.capacity[name] ?? 0);
  const taken = Math.max(0, capacity - amount(amounts.free[name] ?? 0));
  const owners = [...(held.get(name) ?? new Map())].sort(([a], [b]) => (a < b ? -1 : 1));
  const known = owners.reduce((sum, [, value]) => sum + value, 0);
  return { name, capacity, taken: Math.max(taken, 0), owners, others: Math.max(0, taken - known), share: capacity ? taken / capacity : 0 };
}

function barsOf(host, amounts, held, roomy) {
  const fills = Object.keys(amounts.capacity).sort(byResource).map((name) => fill(amounts, name, held));
  const scarcest = fills.reduce((most, one) => (one.share > most.share ? one : most), fills[0]);
  const bars = roomy ? fills.slice(0, BARS) : scarcest ? [scarcest] : [];
  return el("li", { class: "host", title: `${host}\n${fills.map(words).join("\n")}` },
    el("span", { class: "host-name", text: host }),
    ...bars.map((one) => el("span", { class: "resource" }, roomy ? el("span", { class: "of", text: `${one.name} ${percent(one.share)}` }) : null, bar(one))));
}

const percent = (share) => `${Math.round(share * 100)} %`;

function words({ name, capacity, taken, owners, others }) {
  const who = owners.map(([owner, value]) => `${owner} ${quantity(name, value)}`);
  if (others) who.push(`others ${quantity(name, others)}`);
  return `${name}: ${quantity(name, taken)} of ${quantity(name, capacity)}${who.length ? ` (${who.join(", ")})` : ""}`;
}

function bar({ capacity, owners, others, taken }) {
  const made = el("span", { class: "fill" });
  const whole = Math.max(capacity, taken, owners.reduce((sum, [, value]) => sum + value, 0)) || 1;
  for (const [name, value] of [...owners.map(([owner, value]) => [colour(owner), value]), ["others", others]]) {
    if (!value) continue;
    const part = el("i", { class: name });
    part.style.width = `${(value / whole) * 100}%`;
    made.append(part);
  }
  return made;
}

function legend(owners) {
  if (!owners.length) return null;
  const shown = owners.slice(0, OWNERS).map((owner) => el("li", {}, el("i", { class: `swatch ${colour(owner)}`, "aria-hidden": "true" }), el("span", { text: owner })));
  if (owners.length > OWNERS) shown.push(el("li", { text: `and ${count(owners.length - OWNERS)} more` }));
  return el("ul", { class: "legend", "aria-label": "Owners" }, ...shown);
}

function quotas(pool) {
  const usage = pool.usage ?? {};
  const limited = Object.entries(pool.quotas ?? {}).slice(0, OWNERS);
  if (!limited.length) return null;
  const rows = limited.flatMap(([owner, limits]) => Object.entries(limits).map(([name, limit]) => {
    const used = usage[owner]?.[name] ?? 0;
    const meter = el("meter", { min: 0, max: amount(limit) || 1, value: amount(used), "aria-label": `${owner}: ${name}` });
    return el("li", {}, el("span", { text: owner === "*" ? "each other owner" : owner }), owner === "*" ? null : meter,
      el("span", { text: owner === "*" ? `at most ${quantity(name, limit)}` : `${quantity(name, used)} of ${quantity(name, limit)}` }));
  }));
  return el("details", { class: "quotas", data: { pool: `${pool.name} quotas` } }, el("summary", { text: "Quotas" }), el("ul", {}, ...rows));
}

function table(name, hosts, held, open) {
  const details = el("details", { open, data: { pool: name } }, el("summary", { text: "As a table", "aria-label": `Pool ${name} as a table` }));
  const fillIn = () => {
    if (details.childElementCount > 1) return;
    const rows = hosts.flatMap(([host, amounts]) => Object.keys(amounts.capacity).sort(byResource).map((resource) => {
      const one = fill(amounts, resource, held.get(host) ?? new Map());
      const who = [...one.owners.map(([owner, value]) => `${owner} ${quantity(resource, value)}`), ...(one.others ? [`others ${quantity(resource, one.others)}`] : [])];
      return el("tr", {}, el("th", { scope: "row", text: host }), el("td", { text: resource }), el("td", { text: quantity(resource, one.taken) }),
        el("td", { text: quantity(resource, one.capacity) }), el("td", { text: who.join(", ") || "nobody" }));
    }));
    const head = ["Host", "Resource", "Used", "Of", "By"].map((text) => el("th", { scope: "col", text }));
    details.append(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Hosts of pool ${name}` },
      el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows))));
  };
  if (open) fillIn();
  details.addEventListener("toggle", () => details.open && fillIn());
  return details;
}
