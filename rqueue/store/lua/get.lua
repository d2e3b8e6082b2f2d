-- get: one job, and where a waiting one stands.
--
-- KEYS    queue settings heads pools job: pool:
-- NEEDS   clock order owners job
-- ARGV    request_id owners
-- REPLY   the job's fields, then for a waiting job: position, ahead, reason, its pool's bounds where the reason is
--         another for a job that is beyond them, else "", and numbers for the reason's words
-- ERRORS  job_not_found

if not known_to(owners, request_id) then return { "job_not_found" } end
local map, fields = all_fields(request_id)
local job = whole(request_id, map)
if not job then return { "job_not_found" } end
local position = job.Status == "queued" and redis.call("ZRANK", queue, job.member)
if not position then return { "ok", fields } end
-- A rank among a million costs 7 µs, most of it misses of the cache; where all that wait are of one pool there is but one.
local pool = pool_ .. job.Pool
local alone = redis.call("ZCARD", pool) == redis.call("ZCARD", queue)
local ahead = alone and position or redis.call("ZRANK", pool, job.member) or 0
local bounds = redis.call("HGET", pools, job.Pool)

local score, member = head_of(job.Pool)
if redis.call("HGET", settings, "paused") == "1" then
  return { "ok", fields, position, ahead, "paused" }
elseif not bounds then
  return { "ok", fields, position, ahead, "no_pool" }
end
local resource, used, limit, amount = over_quota(job.Pool, job.OwnerID, job.Demand or "")
if resource then
  return { "ok", fields, position, ahead, "over_quota", "", resource, text(used), text(limit), text(amount) }
elseif score and precedes(job.priority, job.member, score, member) then
  return { "ok", fields, position, ahead, "never_fits", bounds }
elseif ahead == 0 or (job.priority == score and job.member == member) then
  return { "ok", fields, position, ahead, "waiting_for_capacity", bounds }
end
return { "ok", fields, position, ahead, "behind", bounds }
