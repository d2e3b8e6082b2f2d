-- call: write down that a delivery is about to go out, and get the job to send.
--
-- KEYS    due job:
-- NEEDS   clock order job claim
-- ARGV    request_id admission claim claim_ms now
-- REPLY   the new claim in ms, the job's fields
-- ERRORS  lost_claim

local job = load(request_id)
if not holds(job, admission, claim) then return { "lost_claim" } end
local now_us = moment(now)
local renewed = until_deadline(job, now_us, claim_ms)
redis.call("ZADD", due, renewed, request_id)
redis.call("HINCRBY", job_ .. request_id, "Attempts", 1)
redis.call("HSET", job_ .. request_id, "UpdatedAt", text(now_us))
return { "ok", renewed, redis.call("HGETALL", job_ .. request_id) }
