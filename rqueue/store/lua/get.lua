-- get: one job, and where a waiting one stands.
--
-- KEYS    queue settings heads pools job: pool:
-- NEEDS   clock order job pack
-- ARGV    request_id
-- REPLY   the job's fields, then for a waiting job: position, ahead, reason
-- ERRORS  job_not_found

local job = load(request_id)
if not job then return { "job_not_found" } end
local fields = redis.call("HGETALL", job_ .. request_id)
local position = job.Status == "queued" and redis.call("ZRANK", queue, job.member)
if not position then return { "ok", fields } end
local ahead = redis.call("ZRANK", pool_ .. job.Pool, job.member) or 0

local reason = ahead > 0 and "behind" or "waiting_for_capacity"
local score, member = head_of(job.Pool)
if redis.call("HGET", settings, "paused") == "1" then
  reason = "paused"
elseif redis.call("SISMEMBER", pools, job.Pool) == 0 then
  reason = "no_pool"
elseif score and precedes(job.priority, job.member, score, member) then
  reason = "never_fits"
elseif job.priority == score and job.member == member then
  reason = "waiting_for_capacity"
else
  -- Not examined yet: whether it ever could go is told all the same.
  local hosts, total = hosts_of(job.Pool)
  local ran, possible = pcall(function() return fit(cjson.decode(job.Demand), hosts, total, true) end)
  if not (ran and possible) then reason = "never_fits" end
end
return { "ok", fields, position, ahead, reason }
