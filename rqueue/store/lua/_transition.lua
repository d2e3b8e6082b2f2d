-- transition: give a job another status, with all that follows from it.
--
-- KEYS    ended due wake heads observed job: held:
-- NEEDS   clock order owners job
--
-- For scripts with the arguments request_id moves admission nonce last_error lease_seconds hold_seconds
-- retention now want actor owners.
-- `moves` is "from:to from:to …", from the one table of legal moves. `admission`, where given, is the
-- turn for which the caller speaks: nothing changes when the job has gone on without it.

-- A source sees what a job of a live pool uses from the moment on at which its client says that it runs, or
-- hold_seconds after the callback was answered: of these the earlier.
local function hold(job, now_us)
  if job.Observed or redis.call("HEXISTS", observed, job.Pool) == 0 then return end
  local from = now_us
  if admission ~= "" then from = now_us + setting("hold_seconds", hold_seconds) * 1000000 end
  local was = finite(redis.call("ZSCORE", held_ .. job.Pool, job.id))
  if not was or from < was then redis.call("ZADD", held_ .. job.Pool, text(from), job.id) end
end

-- Returns the reply; and where the job got another status, the job, the moment, and 1 where its pool is to be
-- examined. Where its hosts were freed while the pool stood still, also the place at which it did, and the
-- host if all of the job was on one.
local function transition()
  if not known_to(owners, request_id) then return { "job_not_found" } end
  local job = load(request_id)
  if not job then return { "job_not_found" } end
  if admission ~= "" and job.Admission ~= admission then return { "lost_claim", job.Status } end
  if job.Nonce == nonce then return { "ok", job.Pool, wanted(job, want) } end
  local to = nil
  for from, target in string.gmatch(moves, "(%a+):(%a+)") do
    if from == job.Status then
      to = target
    end
  end
  if not to then return { "illegal_transition", job.Status } end

  local now_us = moment(now)
  local woke, stood, freed = 0, nil, nil
  local held = job.Status == "calling" or job.Status == "running"
  local ends = to ~= "running" and to ~= "queued"
  -- A job that stops holding, or begins to wait, gets its new status only when that is done.
  local status = to == "running" and to or job.Status
  if held and to ~= "running" and redis.call("SISMEMBER", wake, job.Pool) == 0 then
    stood, freed = redis.call("HGET", heads, job.Pool), only_host(job)
  end
  -- A full server refuses what takes memory, unless something was written before: what ends begins with what it takes.
  if ends then woke = held and release(job, now_us) or leave_line(job) end
  redis.call("HSET", job_ .. request_id, "Nonce", nonce, "UpdatedAt", text(now_us), "Status", status)
  if last_error ~= "" then redis.call("HSET", job_ .. request_id, "LastError", last_error) end

  if to == "running" then
    if job.LastError then redis.call("HDEL", job_ .. request_id, "LastError") end
    hold(job, now_us)
    local lease = setting("lease_seconds", lease_seconds)
    if lease then
      redis.call("ZADD", due, text(milliseconds(now_us) + lease * 1000), request_id)
    else
      redis.call("ZREM", due, request_id)
    end
    if job.Status ~= to then
      event(to, job, job.Status, to, actor)
    end
  elseif to == "queued" then
    if held then
      woke = release(job, now_us)
    else
      redis.call("ZREM", ended, request_id)
      redis.call("ZREM", due, request_id)
    end
    redis.call("HSET", job_ .. request_id, "Status", to)
    redis.call("HDEL", job_ .. request_id, "DeletedAt", "Admission", "AdmittedAt", "Attempts", "NextTry", "LastError")
    woke = math.max(stand(job), woke)
    event(to, job, job.Status, to, actor)
  else
    finish(job, to, now_us, setting("retention", retention), actor, last_error)
  end
  return { "ok", woke == 1 and job.Pool or "", wanted(job, want) }, job, now_us, woke, stood, freed
end
