-- measure: what a scrape asks of a type and of some of its pools. Writes nothing.
--
-- KEYS    queue running settings due job: pool:
-- NEEDS   clock order owners job
-- ARGV    now names...
-- REPLY   the moment in µs, how many wait and how many are called or run, 1 where it is paused, the oldest
--         moment in `due` (ms) or ""; then of each pool: how many wait, and the oldest CreatedAt or ""
-- ERRORS
--
-- A line is in order of priority, so who has waited longest may stand anywhere. Of equal priority the
-- first has, unless it was moved: so the first of each of the few smallest and few largest priorities
-- is looked at. That is exact where a line has not more priorities than that, or none was named and
-- nobody moved.

local ENDS = 8

local function oldest_of(line)
  local oldest = nil
  local function look(member)
    local created = forgive(redis.pcall("HGET", job_ .. id_of(member), "CreatedAt"))
    created = type(created) == "string" and tonumber(created) or nil
    if created and created >= 0 and created < (oldest or math.huge) then oldest = created end
  end
  local beyond = "-inf"
  for _ = 1, ENDS do
    local found = redis.call("ZRANGEBYSCORE", line, beyond, "+inf", "WITHSCORES", "LIMIT", 0, 1)
    if #found == 0 then return oldest end
    look(found[1])
    beyond = "(" .. found[2]
  end
  beyond = "+inf"
  for _ = 1, ENDS do
    local found = redis.call("ZREVRANGEBYSCORE", line, beyond, "-inf", "WITHSCORES", "LIMIT", 0, 1)
    if #found == 0 then break end
    look(redis.call("ZRANGEBYSCORE", line, found[2], found[2], "LIMIT", 0, 1)[1])
    beyond = "(" .. found[2]
  end
  return oldest
end

local next = redis.call("ZRANGE", due, 0, 0, "WITHSCORES")[2]
local reply = {
  "ok", text(moment(now)), redis.call("ZCARD", queue), redis.call("ZCARD", running),
  redis.call("HGET", settings, "paused") == "1" and 1 or 0, next and text(tonumber(next)) or "",
}
for i = names + 1, #ARGV do
  local line = pool_ .. ARGV[i]
  local oldest = oldest_of(line)
  reply[#reply + 1], reply[#reply + 2] = redis.call("ZCARD", line), oldest and text(oldest) or ""
end
return reply
