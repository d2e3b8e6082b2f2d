-- update: change what a waiting job asks for, or whom it calls.
--
-- KEYS    queue callbacks settings job: pool:
-- NEEDS   clock order owners job resolve
-- ARGV    request_id callback demand pool project data_head data_tail default_pool now actor owners
-- REPLY   the pools to wake, the job's fields
-- ERRORS  job_not_found illegal_transition duplicate_callback
--
-- An empty callback, or an empty demand, leaves the one there is.

if not known_to(owners, request_id) then return { "job_not_found" } end
local job = load(request_id)
if not job then return { "job_not_found" } end
if job.Status ~= "queued" then return { "illegal_transition", job.Status } end
local changed = {}
if callback ~= "" and callback ~= job.Callback then
  local holder = redis.call("HGET", callbacks, callback)
  if holder then return { "duplicate_callback", 0, known_to(owners, holder) and holder or "" } end
  if job.Callback then redis.call("HDEL", callbacks, job.Callback) end
  redis.call("HSET", callbacks, callback, request_id)
  redis.call("HSET", job_ .. request_id, "Callback", callback)
  changed[1] = "callback"
end
local woken = {}
if demand ~= "" then
  -- Out of its pool and in again, since another demand may fit where the last one did not.
  leave_line(job)
  woken[1] = wake_pool(job.Pool) and job.Pool
  local default = redis.call("HGET", settings, "default_pool") or default_pool
  local was = job.Pool
  job.Pool, job.Demand = resolve(pool, project, job.OwnerID, default), demand
  changed[#changed + 1] = was == job.Pool and "data" or "data: pool " .. was .. " -> " .. job.Pool
  redis.call("HSET", job_ .. request_id,
    "Pool", job.Pool, "Demand", demand, "Data", data_head .. json(job.Pool) .. data_tail)
  stand(job)
  woken[2] = wake_pool(job.Pool) and job.Pool
end
redis.call("HSET", job_ .. request_id, "UpdatedAt", text(moment(now)))
event("updated", job, "", "", actor, table.concat(changed, ", "))
return { "ok", woken, redis.call("HGETALL", job_ .. request_id) }
