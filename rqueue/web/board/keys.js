// The keyboard: rows by arrows, moves by Alt and arrows.

import { at } from "./dom.js";

export const KEYS = [
  ["↑ ↓", "the row above, below"],
  ["Page Up, Page Down", "a page up, down"],
  ["Home, End", "the first, the last row"],
  ["Alt+↑, Alt+↓", "move the job up, down"],
  ["Alt+Home, Alt+End", "move it to the front, to the back"],
  ["M", "move it to another place"],
  ["Enter", "all about the job"],
  ["Delete", "cancel it, after a question"],
  ["Ctrl+Z", "take the last move back"],
  ["/", "search"],
  ["?", "these keys"],
];

// `act(name, id)` does what a row's button of that name does.
export function listen(line, act, undo, help) {
  line.rows.addEventListener("keydown", (event) => {
    const row = event.target.closest("[data-request-id]");
    if (!row || event.ctrlKey || event.metaKey) return;
    const id = row.dataset.requestId;
    const onButton = event.target.tagName === "BUTTON";
    const index = line.indexOf(id);
    const moves = { ArrowUp: "up", ArrowDown: "down", Home: "front", End: "back" };
    const places = { ArrowUp: index - 1, ArrowDown: index + 1, Home: 0, End: line.total - 1, PageUp: index - line.pageRows, PageDown: index + line.pageRows };
    const acts = { Enter: "details", m: "to", M: "to", Delete: "cancel" };
    if (event.altKey && event.key in moves) act(moves[event.key], id);
    else if (!event.altKey && event.key in places) line.focusAt(places[event.key]);
    else if (!event.altKey && event.key in acts && !(onButton && event.key === "Enter")) act(acts[event.key], id);
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || at("board").hidden) return;
    const writing = event.target.closest("input, select, textarea");
    if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z") {
      if (writing) return;
      undo();
    } else if (writing || event.ctrlKey || event.metaKey || event.altKey) return;
    else if (event.key === "/") at("search").focus();
    else if (event.key === "?") help();
    else return;
    event.preventDefault();
  });
}
