-- history: what happened to a job.
--
-- KEYS    job: history:
-- NEEDS   clock order owners job
-- ARGV    request_id owners
-- REPLY   its owner, CreatedAt in µs, who created it or "", then each later event as `event` writes it
-- ERRORS  job_not_found

if not known_to(owners, request_id) then return { "job_not_found" } end
local is = redis.pcall("HMGET", job_ .. request_id, "OwnerID", "CreatedAt", "CreatedBy")
if is.err then is = forgive(is) and {} end
if not (is[1] and is[2]) then return { "job_not_found" } end
local entries = redis.pcall("LRANGE", history_ .. request_id, 0, -1)
if entries.err then entries = forgive(entries) and {} end
return { "ok", is[1], is[2], is[3] or "", unpack(entries) }
