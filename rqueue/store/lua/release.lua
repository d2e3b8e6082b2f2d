-- release: give a job another status, and where that may let others go, examine its pool at once.
--
-- KEYS    job:
-- NEEDS   clock order owners job transition live pack turn said pass
-- ARGV    request_id moves admission nonce last_error lease_seconds hold_seconds retention call_deadline patience claim_ms most stale_after now want actor owners
-- REPLY   pool to wake or "", the job's fields where they are wanted, then for each job that was admitted as
--         `pass` has it
-- ERRORS  job_not_found illegal_transition lost_claim
--
-- To ask for the pass only then would take longer than all the rest on the way to the next one's callback.

local reply, job, now_us, woke, stood, freed = transition()
if woke ~= 1 then return reply end
-- What is wrong with the pool is not wrong with the job: it has ended, and whoever examines the pool next says so.
local ran, more, turns = pcall(pass, job.Pool, now_us, nonce, call_deadline, claim_ms, most, stood, freed)
if not ran then return reply end
reply[2] = more == 1 and job.Pool or ""
for _, turn in ipairs(turns) do
  reply[#reply + 1] = turn
end
return reply
