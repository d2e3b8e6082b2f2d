-- call: write down that a delivery is about to go out, and get the job to send.
--
-- KEYS    due job:
-- NEEDS   clock order job
-- ARGV    request_id admission claim claim_ms now
-- REPLY   the new claim in ms, the job's fields
-- ERRORS  lost_claim
--
-- The moment in `due` is the claim: when it is no longer the caller's, another replica has taken over.

local job = load(request_id)
if not job or job.Status ~= "calling" or job.Admission ~= admission
  or tonumber(redis.call("ZSCORE", due, request_id) or -1) ~= tonumber(claim) then
  return { "lost_claim" }
end
local now_us = moment(now)
local renewed = text(math.min(milliseconds(now_us) + tonumber(claim_ms), tonumber(job.Deadline) or 0))
redis.call("ZADD", due, renewed, request_id)
redis.call("HINCRBY", job_ .. request_id, "Attempts", 1)
redis.call("HSET", job_ .. request_id, "UpdatedAt", text(now_us))
return { "ok", renewed, redis.call("HGETALL", job_ .. request_id) }
