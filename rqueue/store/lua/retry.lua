-- retry: write down that a delivery did not succeed, and when it is tried again.
--
-- KEYS    due job:
-- NEEDS   clock order job
-- ARGV    request_id admission claim delay_ms error now
-- REPLY   the moment of the next try, in ms
-- ERRORS  lost_claim
--
-- Never later than the deadline, at which the job fails. An empty error leaves the last one.

local job = load(request_id)
if not job or job.Status ~= "calling" or job.Admission ~= admission
  or tonumber(redis.call("ZSCORE", due, request_id) or -1) ~= tonumber(claim) then
  return { "lost_claim" }
end
local now_us = moment(now)
local next_try = math.min(milliseconds(now_us) + tonumber(delay_ms), tonumber(job.Deadline) or 0)
redis.call("ZADD", due, text(next_try), request_id)
if error ~= "" then
  redis.call("HSET", job_ .. request_id, "LastError", error, "UpdatedAt", text(now_us))
end
return { "ok", text(next_try) }
