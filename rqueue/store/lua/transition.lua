-- transition: give a job another status.
--
-- KEYS    job:
-- NEEDS   clock order owners job transition
-- ARGV    request_id moves admission nonce last_error lease_seconds hold_seconds retention now want actor owners
-- REPLY   pool to wake or "", the job's fields where they are wanted
-- ERRORS  job_not_found illegal_transition lost_claim

local reply = transition()
return reply
