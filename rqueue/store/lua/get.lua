-- get: one job, and where a waiting one stands.
--
-- KEYS    queue settings heads pools observed source_errors due job: pool: releases:
-- NEEDS   clock order owners job live
-- ARGV    request_id stale_after owners now
-- REPLY   the job's fields, of a calling one with NextCall (µs), then for a waiting job: position, ahead, reason, its pool's bounds where the reason is
--         another for a job that is beyond them, else "", and numbers for the reason's words; or where there may be an
--         estimate the moment, what its pool released, a line each, and the demands of some of those ahead, evenly
--         spaced
-- ERRORS  job_not_found

-- An estimate is made from so many releases, and so many of those ahead.
local FEWEST = 9
local MOST = 129
local SAMPLED = 12

if not known_to(owners, request_id) then return { "job_not_found" } end
local map, fields = all_fields(request_id)
local job = whole(request_id, map)
if not job then return { "job_not_found" } end
local position = job.Status == "queued" and redis.call("ZRANK", queue, job.member)
if not position then
  local at = job.Status == "calling" and forgive(redis.pcall("ZSCORE", due, request_id))
  at = type(at) == "string" and finite(at)
  if at then fields[#fields + 1], fields[#fields + 2] = "NextCall", text(at * 1000) end
  return { "ok", fields }
end
-- A rank among a million costs 7 µs, most of it misses of the cache; where all that wait are of one pool there is but one.
local pool = pool_ .. job.Pool
local alone = redis.call("ZCARD", pool) == redis.call("ZCARD", queue)
local ahead = alone and position or redis.call("ZRANK", pool, job.member) or 0
local bounds = redis.call("HGET", pools, job.Pool)

local score, member = head_of(job.Pool)
local set = redis.call("HMGET", settings, "paused", "stale_after")
local live = redis.call("HGET", observed, job.Pool)
if set[1] == "1" then
  return { "ok", fields, position, ahead, "paused" }
elseif not bounds then
  return { "ok", fields, position, ahead, "no_pool" }
elseif live and too_old(live, set[2], moment(now)) then
  local was = finite(live) or 0
  local age = was > 0 and text(math.floor((moment(now) - was) / 1000000)) or ""
  local said = redis.call("HGET", source_errors, job.Pool) or ""
  return { "ok", fields, position, ahead, "source_stale", "", age, set[2] or stale_after, said }
end
local resource, used, limit, amount = nil, nil, nil, nil
if by_owner() then resource, used, limit, amount = over_quota(job.Pool, job.OwnerID, job.Demand or "") end
if resource then
  return { "ok", fields, position, ahead, "over_quota", "", resource, text(used), text(limit), text(amount) }
elseif score and precedes(job.priority, job.member, score, member) then
  return { "ok", fields, position, ahead, "never_fits", bounds }
end
local first = ahead == 0 or (job.priority == score and job.member == member)
local reply = { "ok", fields, position, ahead, first and "waiting_for_capacity" or "behind", bounds }
-- Other policies than strict let others go first, and how many nobody knows.
if not score or policy() ~= "strict" then return reply end
local released = forgive(redis.pcall("LLEN", releases_ .. job.Pool))
if type(released) ~= "number" or released < FEWEST then return reply end
local demands, some = {}, math.min(ahead, SAMPLED)
for i = 1, some do
  local index = math.floor((i - 0.5) * ahead / some)
  local demand = forgive(redis.pcall("HGET", job_ .. id_of(redis.call("ZRANGE", pool, index, index)[1] or ""), "Demand"))
  demands[i] = type(demand) == "string" and demand or ""
end
-- As texts of lines: a list of so many costs twice as much on its way.
local lines = table.concat(redis.call("LRANGE", releases_ .. job.Pool, -MOST, -1), "\n")
reply[7], reply[8], reply[9] = text(moment(now)), lines, table.concat(demands, "\n")
return reply
