-- retry: write down that a delivery did not succeed, and when it is tried again.
--
-- KEYS    due job:
-- NEEDS   clock order owners job claim
-- ARGV    request_id admission claim delay_ms last_error called now
-- REPLY   the moment of the next try, in ms
-- ERRORS  lost_claim
--
-- Never later than the deadline, at which the job fails. An empty one leaves the last error. With `called` 0
-- the claim of an admission is given up unused: the attempt that was counted in advance is not one.

local job = load(request_id)
if not holds(job, admission, claim) then return { "lost_claim" } end
local now_us = moment(now)
local next_try = until_deadline(job, now_us, delay_ms)
redis.call("ZADD", due, next_try, request_id)
if called == "0" then redis.call("HSET", job_ .. request_id, "Attempts", 0) end
if last_error ~= "" then
  redis.call("HSET", job_ .. request_id, "LastError", last_error, "NextTry", next_try, "UpdatedAt", text(now_us))
  local attempt = redis.call("HGET", job_ .. request_id, "Attempts") or ""
  local wait = (tonumber(next_try) - milliseconds(now_us)) / 1000
  local again = next_try == job.Deadline and "not called again" or string.format("called again in %.1f s", wait)
  event("call_failed", job, "", attempt, nil, last_error .. "; " .. again)
end
return { "ok", next_try }
