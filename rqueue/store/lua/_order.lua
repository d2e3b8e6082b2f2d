-- order: comparing and finding places in a sorted set.
--
-- KEYS
--
-- A place is a score and a member. Equal scores stand in the order of their members' bytes; Lua's
-- own `<` on strings follows the server's locale, so it is not used.

local RANK_DIGITS = 14
local MAX_RANK = 9007199254740991
local MAX_PRIORITY = 9007199254740991
local RANK_STEP = 1048576
-- The largest ID whose rank, the ID shifted left, is still a rank.
local MAX_ID = 8589934591

local function hex(rank)
  local high = math.floor(rank / 4294967296)
  return string.format("%06x%08x", high, rank - high * 4294967296)
end

local function rank_of(member)
  return tonumber(string.sub(member, 1, RANK_DIGITS), 16) or 0
end

local function id_of(member)
  return string.sub(member, RANK_DIGITS + 2)
end

local function bytes_before(a, b)
  local length = math.min(#a, #b)
  for i = 1, length do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

local function precedes(score_a, member_a, score_b, member_b)
  if score_a ~= score_b then return score_a < score_b end
  return bytes_before(member_a, member_b)
end

-- A place as one text, "<score>:<member>", and back. A score is whole unless a hand edit made it another:
-- that is written too, so that a list goes on behind it.
local function place_text(score, member)
  local whole = score % 1 == 0 and score >= -MAX_PRIORITY - 1 and score <= MAX_PRIORITY + 1
  return (whole and text(score) or string.format("%.17g", score)) .. ":" .. member
end

local function place_of(written)
  local score, member = string.match(written, "^([-+.%deinf]+):(.*)$")
  return tonumber(score), member
end

-- How many members of a set stand before a place that need not be there: O(log n) steps.
local function before(set, score, member)
  local low = redis.call("ZCOUNT", set, "-inf", "(" .. text(score))
  local high = low + redis.call("ZCOUNT", set, text(score), text(score))
  while low < high do
    local middle = math.floor((low + high) / 2)
    if bytes_before(redis.call("ZRANGE", set, middle, middle)[1], member) then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end
