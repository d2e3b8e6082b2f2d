-- create: put one or many new jobs in line, all or none.
--
-- KEYS    queue seq callbacks settings job: owner:
-- NEEDS   clock order job place resolve
-- ARGV    nonce default_pool now drafts...
-- REPLY   pools to wake as a list, then of each job: its ID, CreatedAt, Priority, and Pool as JSON
-- ERRORS  duplicate_request_id duplicate_callback queue_full
--
-- A draft is nine arguments, in the order of `Draft`. `nonce` is of this call: when a client library
-- sends it a second time because the answer was lost, the jobs are there and are answered again.

local WIDTH = 9
local ids, targets = {}, {}
for at = drafts + 1, #ARGV, WIDTH do
  local id, callback, index = ARGV[at], ARGV[at + 2], (at - drafts - 1) / WIDTH
  if ids[id] or redis.call("EXISTS", job_ .. id) == 1 then
    if redis.pcall("HGET", job_ .. id, "Nonce") ~= nonce then return { "duplicate_request_id", index, id } end
    local reply = { "ok", {} }
    for again = drafts + 1, #ARGV, WIDTH do
      local was = redis.call("HMGET", job_ .. ARGV[again], "ID", "CreatedAt", "Priority", "Pool")
      reply[#reply + 1] = { was[1], was[2], was[3], json(was[4] or "") }
    end
    return reply
  end
  local holder = targets[callback] or redis.call("HGET", callbacks, callback)
  if holder then return { "duplicate_callback", index, holder } end
  ids[id], targets[callback] = true, id
end
local count = (#ARGV - drafts) / WIDTH
local set = redis.call("HMGET", settings, "max_queued", "default_pool")
local max_queued = tonumber(set[1] or "")
if max_queued and redis.call("ZCARD", queue) + count > max_queued then return { "queue_full", max_queued } end

local now_us = moment(now)
local created = text(now_us)
local id_before = redis.call("INCRBY", seq, count) - count
local last = redis.call("ZREVRANGE", queue, 0, 0, "WITHSCORES")[2]
-- The priority of one that comes last: when it came, or one more than the last has.
local back = math.max(now_us, last and tonumber(last) + 1 or now_us)
local pools, reply = {}, { "ok", {} }
for at = drafts + 1, #ARGV, WIDTH do
  local id, owner_id, callback, asked = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local pool = resolve(ARGV[at + 5], ARGV[at + 6], owner_id, set[2] or default_pool)
  id_before = id_before + 1
  local job = { id = id, OwnerID = owner_id, Pool = pool, ID = text(id_before) }
  if asked == "" and back <= MAX_PRIORITY then
    job.priority, job.rank = back, natural_rank(job.ID)
  else
    job.priority, job.rank = place_at(job, tonumber(asked) or MAX_PRIORITY)
  end
  back = math.max(back, job.priority + 1)
  local priority, written = text(job.priority), json(pool)
  redis.call("HSET", job_ .. id,
    "ID", job.ID, "CreatedAt", created, "UpdatedAt", created, "OwnerID", owner_id,
    "Data", ARGV[at + 7] .. written .. ARGV[at + 8], "Callback", callback, "Priority", priority,
    "Status", "queued", "Pool", pool, "Demand", ARGV[at + 4], "Nonce", nonce)
  if job.rank ~= natural_rank(job.ID) then store_rank(job) end
  redis.call("HSET", callbacks, callback, id)
  if stand(job) == 1 then
    pools[pool] = true
  end
  event("created", id, "", "queued")
  reply[#reply + 1] = { job.ID, created, priority, written }
end
for pool in pairs(pools) do
  table.insert(reply[2], pool)
end
return reply
