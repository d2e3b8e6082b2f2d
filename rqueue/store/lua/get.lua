-- get: one job, and where a waiting one stands.
--
-- KEYS    queue settings heads pools job: pool:
-- NEEDS   clock order job
-- ARGV    request_id
-- REPLY   the job's fields, then for a waiting job: position, ahead, reason
-- ERRORS  job_not_found

local map, fields = all_fields(request_id)
local job = whole(request_id, map)
if not job then return { "job_not_found" } end
local position = job.Status == "queued" and redis.call("ZRANK", queue, job.member)
if not position then return { "ok", fields } end
local ahead = redis.call("ZRANK", pool_ .. job.Pool, job.member) or 0
local bounds = redis.call("HGET", pools, job.Pool)

-- Whether a demand is more than the largest host or the whole pool has: some that never fit pass this,
-- and are found out when it is their turn.
local function beyond()
  local asked, limits = {}, cjson.decode(bounds)
  for _, run in ipairs(cjson.decode(job.Demand)) do
    for resource, amount in pairs(run[2]) do
      asked[resource] = (asked[resource] or 0) + run[1] * amount
      local limit = limits[resource]
      if not limit or amount > limit[1] or asked[resource] > limit[2] then return true end
    end
  end
  return false
end

local reason = ahead > 0 and "behind" or "waiting_for_capacity"
local score, member = head_of(job.Pool)
if redis.call("HGET", settings, "paused") == "1" then
  reason = "paused"
elseif not bounds then
  reason = "no_pool"
elseif score and precedes(job.priority, job.member, score, member) then
  reason = "never_fits"
elseif job.priority == score and job.member == member then
  reason = "waiting_for_capacity"
else
  local readable, never = pcall(beyond)
  if never or not readable then reason = "never_fits" end
end
return { "ok", fields, position, ahead, reason }
