-- delete_pool: forget a pool. Its waiting jobs stay in line with the reason no_pool.
--
-- KEYS    pools projects capacity: quotas:
-- NEEDS   clock order owners job
-- ARGV    pool actor
-- REPLY   nothing more
-- ERRORS  pool_not_found

if redis.call("HDEL", pools, pool) == 0 then return { "pool_not_found" } end
local held = redis.call("HGETALL", projects)
for i = 1, #held, 2 do
  if held[i + 1] == pool then redis.call("HDEL", projects, held[i]) end
end
redis.call("DEL", capacity_ .. pool)
redis.call("DEL", quotas_ .. pool)
redis.call("DEL", releases_ .. pool)
redis.call("HDEL", heads, pool)
-- Who waits there waits for no_pool from now on: that is for a pass to find.
room_made(pool)
event("capacity", "", pool, "", actor)
return { "ok" }
