-- admit: one pass over a pool.
--
-- KEYS    wake
-- NEEDS   clock order owners job live pack turn said pass
-- ARGV    pool nonce call_deadline patience claim_ms most stale_after now
-- REPLY   1 where there is more to do, else 0, then for each admitted job as `pass` has it
-- ERRORS

local more, turns = pass(pool, moment(now), nonce, call_deadline, claim_ms, most)
return { "ok", more, unpack(turns) }
