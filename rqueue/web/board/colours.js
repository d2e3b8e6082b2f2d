// A colour for each owner, the same everywhere on the page, and as far as there are enough of them in every tab.

const COLOURS = 10;
const given = new Map();
const taken = new Set();

export function colour(owner) {
  if (!given.has(owner)) {
    let slot = hash(owner);
    for (let tried = 0; tried < COLOURS && taken.has(slot); tried++) slot = (slot + 1) % COLOURS;
    taken.add(slot);
    given.set(owner, slot);
  }
  return `owner-${given.get(owner)}`;
}

function hash(text) {
  let sum = 7;
  for (const letter of text) sum = (sum * 31 + letter.codePointAt(0)) % 1_000_003;
  return sum % COLOURS;
}
