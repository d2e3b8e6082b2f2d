// The API: one way to ask it, its errors, and its clock.

const LONGEST = 10_000;

let csrf = "";
// How far the server's clock is ahead of the browser's, in ms.
let ahead = 0;
let onUnknown = () => {};

export const now = () => Date.now() + ahead;
export const isAway = (error) => error.status === 0 || error.status >= 500;

export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status; // 0 where nobody answered
    this.code = code;
  }
}

// What to do when nobody knows any more who asks.
export function whenUnknown(handler) {
  onUnknown = handler;
}

// The whole answer, `{"data": …, "ok": true, …}`. Throws Refused.
export async function ask(method, path, body, signal) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (csrf && method !== "GET") headers["X-CSRF-Token"] = csrf;
  const began = Date.now();
  let response, answer;
  try {
    response = await fetch(path, { method, headers, signal: patient(signal), body: body === undefined ? undefined : JSON.stringify(body) });
    answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    // An answer that is no JSON is not the service's own, or was cut off.
    const words = response ? `what answers is not the service, or broke off (${response.status})` : "the service does not answer";
    throw new Refused(response && !response.ok ? response.status : 0, "unreachable", words);
  }
  keepTime(response.headers.get("Date"), began);
  if (answer.ok) return answer;
  const { code, message } = answer.error ?? { code: "internal", message: response.statusText };
  if (response.status === 401 && path !== "/board/login") onUnknown();
  throw new Refused(response.status, code, message);
}

// A network that drops everything says nothing, for minutes.
function patient(signal) {
  const limit = AbortSignal.timeout(LONGEST);
  return signal ? AbortSignal.any([signal, limit]) : limit;
}

export const get = async (path, signal) => (await ask("GET", path, undefined, signal)).data;

function keepTime(date, began) {
  const sent = Date.parse(date ?? "");
  if (Number.isNaN(sent)) return;
  // The header tells no fraction: on average half a second has passed.
  const found = sent + 500 - (began + Date.now()) / 2;
  if (Math.abs(found - ahead) > 1500) ahead = found;
}

// Who asks, and what they may: `{"name", "role", "rights", "types", "owners", "csrf"}`.
export async function session() {
  const found = await get("/board/session");
  csrf = found.csrf;
  return found;
}

export async function login(token) {
  csrf = (await ask("POST", "/board/login", { token })).data.csrf;
}

export async function logout() {
  await ask("POST", "/board/logout", {});
  csrf = "";
}

const part = encodeURIComponent;
export const jobPath = (type, id) => `/v1/${part(type)}/${part(id)}`;
export const queuePath = (type, ...rest) => `/queues/${[type, ...rest].map(part).join("/")}`;
export function listPath(type, query) {
  const said = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return `/v1/${part(type)}/?${new URLSearchParams(said)}`;
}
