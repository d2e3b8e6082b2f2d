-- configure: change some of a queue's settings.
--
-- KEYS    settings wake heads queue apart pools
-- NEEDS   clock order owners job resolve
-- ARGV    actor changes...
-- REPLY   the pools to wake, as a list
-- ERRORS  wrong_source
--
-- Each change is a name, a value, of which "" gives the setting its default back, and the default as JSON. What
-- changes by it is told as JSON of what it was and what it is.

-- Pools of one source mean nothing to another.
for at = changes + 1, #ARGV, 3 do
  if ARGV[at] == "source" and redis.call("HLEN", pools) > 0 then
    local source = redis.call("HGET", settings, "source") or "declared"
    if (ARGV[at + 1] == "" and "declared" or ARGV[at + 1]) ~= source then return { "wrong_source", source } end
  end
end

local function shown(name, value, default)
  if (value or "") == "" then
    value = default
  elseif name == "paused" then
    value = value == "1" and "true" or "false"
  elseif name == "default_pool" or not string.match(value, "^%d+$") then
    value = json(string.sub(value, 1, 300))
  end
  return '"' .. name .. '":' .. value
end

local was, is = {}, {}
for at = changes + 1, #ARGV, 3 do
  local name = ARGV[at]
  local old, new = shown(name, redis.call("HGET", settings, name), ARGV[at + 2]), shown(name, ARGV[at + 1], ARGV[at + 2])
  if old ~= new then was[#was + 1], is[#is + 1] = old, new end
  if ARGV[at + 1] == "" then
    redis.call("HDEL", settings, ARGV[at])
  else
    redis.call("HSET", settings, ARGV[at], ARGV[at + 1])
  end
end
local others = {}
for at = changes + 1, #ARGV, 3 do
  -- By another policy, those behind a head may go, or may not; what was too old may not be so any more.
  if ARGV[at] == "policy" or ARGV[at] == "patience" or ARGV[at] == "stale_after" then others = redis.call("HKEYS", heads) end
  if ARGV[at] == "policy" and ARGV[at + 1] == "fair" then sort_by_owner(true) end
end
for _, pool in ipairs(others) do
  redis.call("HDEL", heads, pool)
  room_made(pool)
end
if #is > 0 then
  event("settings", nil, "{" .. table.concat(was, ",") .. "}", "{" .. table.concat(is, ",") .. "}", actor)
end
return { "ok", redis.call("SMEMBERS", wake) }
