-- spread: give some members of a range of ranks their even share of it; one step of many.
--
-- KEYS    queue
-- NEEDS   clock order owners job place
-- ARGV    priority low size side done most
-- REPLY   how many were looked at from this side so far, or "" at the end; how many got another rank
-- ERRORS
--
-- From the right those that stand too far left go right, the rightmost first; then from the left the
-- others go left. So none ever passes another, whatever happens between two steps: a rank that its
-- neighbour does not leave free is not taken, and the next move asks again.

local score, from, span = tonumber(priority), tonumber(low), tonumber(size)
local members, first = members_in(score, from, span)
local step = math.floor(span / (members + 1))
local last = math.min(tonumber(done) + tonumber(most), members)
local outward = side == "right" and 1 or -1
for looked = tonumber(done), last - 1 do
  local i = side == "right" and members - 1 - looked or looked
  local entry, beside = at(first + i), at(first + i + outward)
  local share = from + step * (i + 1)
  local free = not beside or beside.priority ~= score or (beside.rank - share) * outward > 0
  if free and (share - entry.rank) * outward > 0 then relabel(entry, share) end
end
return { "ok", last < members and text(last) or "", touched }
