-- source_failed: say of a live pool why it could not be read.
--
-- KEYS    reader sources source_errors
-- ARGV    replica pool found_by said
-- REPLY   nothing more
-- ERRORS

-- Who does not read it any more has nothing to say of it.
local _, holder = string.match(redis.call("GET", reader) or "", "^(%d+):(.*)$")
if holder == replica and redis.call("HGET", sources, pool) == found_by then redis.call("HSET", source_errors, pool, said) end
return { "ok" }
