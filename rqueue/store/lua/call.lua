-- call: write down that a delivery is about to go out, and get the job to send.
--
-- KEYS    due job:
-- NEEDS   clock order owners job claim
-- ARGV    request_id admission claim claim_ms nonce counts now
-- REPLY   the new claim in ms, the job's fields
-- ERRORS  lost_claim
--
-- A job whose deadline has passed is not called any more: it is about to fail. With `counts` 0 the attempt
-- has been counted before: it is the first one, and went out late.

local job = load(request_id)
local now_us = moment(now)
if job and job.Nonce == nonce and job.Status == "calling" then
  return { "ok", redis.call("ZSCORE", due, request_id), redis.call("HGETALL", job_ .. request_id) }
end
if not holds(job, admission, claim) or milliseconds(now_us) >= (finite(job.Deadline) or 0) then
  return { "lost_claim" }
end
local renewed = until_deadline(job, now_us, claim_ms)
redis.call("ZADD", due, renewed, request_id)
local attempt = redis.call("HINCRBY", job_ .. request_id, "Attempts", tonumber(counts))
redis.call("HSET", job_ .. request_id, "Nonce", nonce, "UpdatedAt", text(now_us))
event("called", job, "", text(attempt))
return { "ok", renewed, redis.call("HGETALL", job_ .. request_id) }
