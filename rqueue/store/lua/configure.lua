-- configure: change some of a queue's settings.
--
-- KEYS    settings wake
-- NEEDS   clock order job
-- ARGV    said actor changes...
-- REPLY   the pools to wake, as a list
-- ERRORS
--
-- Each change is a name and a value; "" gives the setting its default back. `said` is for the event.

for at = changes + 1, #ARGV, 2 do
  if ARGV[at + 1] == "" then
    redis.call("HDEL", settings, ARGV[at])
  else
    redis.call("HSET", settings, ARGV[at], ARGV[at + 1])
  end
end
event("settings", "", "", said, actor)
return { "ok", redis.call("SMEMBERS", wake) }
