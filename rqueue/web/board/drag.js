// Dragging a row, by mouse or finger.

import Sortable from "./vendor/sortable.js";

// `onDrop` gets the job and its new neighbours, each undefined where it has none that is known.
export function draggable(line, onDrop) {
  return Sortable.create(line.rows, {
    draggable: ".row",
    filter: "button, .fixed, .blank",
    preventOnFilter: false,
    // A finger that moves at once scrolls; one that rests takes the row.
    delay: 180,
    delayOnTouchOnly: true,
    touchStartThreshold: 6,
    forceFallback: true,
    fallbackOnBody: true,
    fallbackTolerance: 4,
    scroll: document.getElementById("line"),
    scrollSensitivity: 60,
    animation: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 120,
    onStart: () => line.freeze(true),
    onEnd: async ({ item, oldIndex, newIndex }) => {
      const name = (row) => row?.dataset.requestId;
      const [after, before] = [name(item.previousElementSibling), name(item.nextElementSibling)];
      try {
        if (oldIndex !== newIndex && (after || before)) await onDrop(name(item), after, before);
      } finally {
        line.freeze(false);
      }
    },
  });
}
