-- claim: who may call a job. The moment in `due` is the claim; when it is no longer the caller's,
-- another replica has taken over.
--
-- KEYS    due job:
-- NEEDS   clock order owners job

local function holds(job, admission, claim)
  return job and job.Status == "calling" and job.Admission == admission
    and tonumber(redis.call("ZSCORE", due, job.id) or -1) == tonumber(claim)
end

-- A moment so many ms from now, or the job's deadline where that is earlier.
local function until_deadline(job, now_us, ms)
  return text(math.min(milliseconds(now_us) + tonumber(ms), finite(job.Deadline) or 0))
end
