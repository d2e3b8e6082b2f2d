-- source_failed: say of a live pool why it could not be read.
--
-- KEYS    sources source_errors
-- ARGV    pool found_by said
-- REPLY   nothing more
-- ERRORS

if redis.call("HGET", sources, pool) == found_by then redis.call("HSET", source_errors, pool, said) end
return { "ok" }
