// A colour for each owner: the same everywhere on the page, given out in the order in which owners are met.

const COLOURS = 10;
const given = new Map();

export function colour(owner) {
  if (!given.has(owner)) given.set(owner, given.size);
  return `owner-${given.get(owner) % COLOURS}`;
}
