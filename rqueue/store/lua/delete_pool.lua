-- delete_pool: forget a pool. Its waiting jobs stay in line with the reason no_pool.
--
-- KEYS    pools projects sources observed source_errors capacity: seen: limits: held: quotas: job:
-- NEEDS   clock order owners job
-- ARGV    pool actor
-- REPLY   nothing more
-- ERRORS  pool_not_found

if redis.call("HDEL", pools, pool) == 0 then return { "pool_not_found" } end
local held = redis.call("HGETALL", projects)
for i = 1, #held, 2 do
  if held[i + 1] == pool then redis.call("HDEL", projects, held[i]) end
end
redis.call("DEL", capacity_ .. pool, seen_ .. pool, limits_ .. pool, quotas_ .. pool, releases_ .. pool)
for _, hash in ipairs({ sources, observed, source_errors }) do redis.call("HDEL", hash, pool) end
-- What a source saw itself nobody sees any more: it is charged again, until one sees it again.
for _, id in ipairs(redis.call("ZRANGEBYSCORE", held_ .. pool, "inf", "inf")) do
  local job = load(id)
  if job and job.Observed and job.Pool == pool then
    charge(job, 1)
    redis.call("HDEL", job_ .. id, "Observed")
    redis.call("ZADD", held_ .. pool, text(finite(job.Observed) or 0), id)
  end
end
redis.call("HDEL", heads, pool)
-- Who waits there waits for no_pool from now on: that is for a pass to find.
room_made(pool)
event("capacity", nil, pool, "", actor)
return { "ok" }
