-- due: do what time brings: redeliver, fail, expire, purge. Works off a bounded number of jobs.
--
-- KEYS    running ended settings due wake callbacks job: history: owner: used:
-- NEEDS   clock order owners job claim
-- ARGV    claim_ms most retention now
-- REPLY   1 where more is due, else 0, the pools to examine, how many failed and how many expired, those that
--         could not be looked at as {request_id, why}, 1 where time can bring nothing but that ended jobs are
--         forgotten, else 0, then for each job to call: {request_id, callback, admission, claim}
-- ERRORS
--
-- A job that a hand edit damaged so that nothing can be done about it is looked at again in a while, and
-- holds up no other.

local AGAIN_MS = 30000

local now_us = moment(now)
local now_ms = math.floor(now_us / 1000)
local ids = redis.call("ZRANGEBYSCORE", due, "-inf", text(now_ms), "LIMIT", 0, tonumber(most))
local reply = { "ok", #ids == tonumber(most) and 1 or 0, {}, 0, 0, {}, 0 }
local keep = setting("retention", retention)

local function purge(job)
  redis.call("DEL", job_ .. job.id, history_ .. job.id)
  redis.call("ZREM", ended, job.id)
  redis.call("ZREM", due, job.id)
  if job.Callback and redis.call("HGET", callbacks, job.Callback) == job.id then
    redis.call("HDEL", callbacks, job.Callback)
  end
end

local function look(id)
  local job = load(id)
  if not job or job.Status == "queued" then
    redis.call("ZREM", due, id)
  elseif job.Status == "calling" then
    if now_ms >= (finite(job.Deadline) or 0) then
      release(job, now_us)
      if not job.LastError then
        job.LastError = "no answer within the call_deadline"
        redis.call("HSET", job_ .. id, "LastError", job.LastError)
      end
      finish(job, "failed", now_us, keep, nil, job.LastError)
      reply[4] = reply[4] + 1
    else
      local claim = until_deadline(job, now_us, claim_ms)
      -- Taken out first, as a full server takes that and then the rest, with those to be purged behind it.
      redis.call("ZREM", due, id)
      redis.call("ZADD", due, claim, id)
      reply[#reply + 1] = { id, job.Callback or "", job.Admission or "", claim }
    end
  elseif job.Status == "running" then
    release(job, now_us)
    finish(job, "expired", now_us, keep, nil, "its lease lapsed")
    reply[5] = reply[5] + 1
  elseif redis.call("ZSCORE", ended, id) then
    purge(job)
  else
    -- A status of nobody's: for a person to look at, not to be thrown away.
    redis.call("ZREM", due, id)
  end
end

for _, id in ipairs(ids) do
  local ran, fault = pcall(look, id)
  local said = type(fault) == "table" and fault.err or fault
  if not ran then
    -- What Redis refuses to all, as when it is full, is no fault of this job; of that pcall gives the words only,
    -- and of an error of Lua's own the line first.
    if not string.find(said, ":%d+: ") then forgive({ err = said }) end
    redis.call("ZADD", due, text(now_ms + AGAIN_MS), id)
    table.insert(reply[6], { id, said })
  end
end
if redis.call("HGET", settings, "paused") ~= "1" then
  -- SRANDMEMBER with a count is bounded; whoever is not in it comes at the next tick.
  reply[3] = redis.call("SRANDMEMBER", wake, 100)
end
-- Who is called or runs is in `running`. A damaged one is nobody's fault here.
if #ids == 0 and #reply[3] == 0 and redis.pcall("ZCARD", running) == 0 then reply[7] = 1 end
return reply
