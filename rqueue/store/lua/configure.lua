-- configure: change some of a queue's settings.
--
-- KEYS    settings wake heads queue apart pools
-- NEEDS   clock order owners job
-- ARGV    said actor changes...
-- REPLY   the pools to wake, as a list
-- ERRORS  wrong_source
--
-- Each change is a name and a value; "" gives the setting its default back. `said` is for the event.

-- Pools of one source mean nothing to another.
for at = changes + 1, #ARGV, 2 do
  if ARGV[at] == "source" and redis.call("HLEN", pools) > 0 then
    local source = redis.call("HGET", settings, "source") or "declared"
    if (ARGV[at + 1] == "" and "declared" or ARGV[at + 1]) ~= source then return { "wrong_source", source } end
  end
end
for at = changes + 1, #ARGV, 2 do
  if ARGV[at + 1] == "" then
    redis.call("HDEL", settings, ARGV[at])
  else
    redis.call("HSET", settings, ARGV[at], ARGV[at + 1])
  end
end
local others = {}
for at = changes + 1, #ARGV, 2 do
  -- By another policy, those behind a head may go, or may not; what was too old may not be so any more.
  if ARGV[at] == "policy" or ARGV[at] == "patience" or ARGV[at] == "stale_after" then others = redis.call("HKEYS", heads) end
  if ARGV[at] == "policy" and ARGV[at + 1] == "fair" then sort_by_owner(true) end
end
for _, pool in ipairs(others) do
  redis.call("HDEL", heads, pool)
  room_made(pool)
end
event("settings", nil, "", said, actor)
return { "ok", redis.call("SMEMBERS", wake) }
