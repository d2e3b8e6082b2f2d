-- redeliver: have a calling job called now, and not only at its next try.
--
-- KEYS    due job:
-- NEEDS   clock order owners job claim
-- ARGV    request_id nonce claim_ms now want actor owners
-- REPLY   the job's fields where they are wanted, then, where it is the caller's to call, the job as `due` has it
-- ERRORS  job_not_found illegal_transition
--
-- Whose moment in `due` is not that of a next try is being called, or is about to be: nothing changes. With
-- `claim_ms` 0 whoever comes first calls it.

if not known_to(owners, request_id) then return { "job_not_found" } end
local job = load(request_id)
if not job then return { "job_not_found" } end
if job.Status ~= "calling" then return { "illegal_transition", job.Status } end
local claim, next_try = redis.call("ZSCORE", due, request_id), redis.call("HGET", job_ .. request_id, "NextTry")
if job.Nonce ~= nonce then
  if not next_try or tonumber(claim or -1) ~= tonumber(next_try) then return { "ok", wanted(job, want) } end
  local now_us = moment(now)
  claim = until_deadline(job, now_us, claim_ms)
  redis.call("ZADD", due, claim, request_id)
  redis.call("HDEL", job_ .. request_id, "NextTry")
  redis.call("HSET", job_ .. request_id, "Nonce", nonce, "UpdatedAt", text(now_us))
  event("redelivered", job, "", "", actor)
end
local reply = { "ok", wanted(job, want) }
if claim_ms ~= "0" then reply[3] = { request_id, job.Callback or "", job.Admission or "", claim } end
return reply
