-- create: put one or many new jobs in line, all or none.
--
-- KEYS    queue seq callbacks settings job: owner:
-- NEEDS   clock order job place resolve
-- ARGV    nonce default_pool now drafts...
-- REPLY   pools to wake as a list, then the fields of each job, in order
-- ERRORS  duplicate_request_id duplicate_callback queue_full
--
-- A draft is nine arguments, in the order of `Draft`. `nonce` is of this call: when a client library
-- sends it a second time because the answer was lost, the jobs are there and are answered again.

local WIDTH = 9
local now_us = moment(now)

local first = load(ARGV[drafts + 1])
if first and first.Nonce == nonce then
  local reply = { "ok", {} }
  for at = drafts + 1, #ARGV, WIDTH do
    reply[#reply + 1] = redis.call("HGETALL", job_ .. ARGV[at])
  end
  return reply
end

local count = (#ARGV - drafts) / WIDTH
local max_queued = setting("max_queued", nil)
if max_queued and redis.call("ZCARD", queue) + count > max_queued then return { "queue_full", max_queued } end
local ids, targets = {}, {}
for at = drafts + 1, #ARGV, WIDTH do
  local id, callback, index = ARGV[at], ARGV[at + 2], (at - drafts - 1) / WIDTH
  if ids[id] or redis.call("EXISTS", job_ .. id) == 1 then return { "duplicate_request_id", index, id } end
  local holder = targets[callback] or redis.call("HGET", callbacks, callback)
  if holder then return { "duplicate_callback", index, holder } end
  ids[id], targets[callback] = true, id
end

local pools, reply = {}, { "ok", {} }
for at = drafts + 1, #ARGV, WIDTH do
  local id, owner_id, callback, asked, demand = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local pool = resolve(ARGV[at + 5], ARGV[at + 6], owner_id, default_pool)
  local job = { id = id, OwnerID = owner_id, Pool = pool, ID = text(redis.call("INCR", seq)) }
  if asked == "" then
    job.priority, job.rank = place_between(job, last_entry(), nil, now_us)
  else
    job.priority, job.rank = place_at(job, tonumber(asked))
  end
  redis.call("HSET", job_ .. id,
    "ID", job.ID, "CreatedAt", text(now_us), "UpdatedAt", text(now_us), "OwnerID", owner_id,
    "Data", data_with(pool, ARGV[at + 7], ARGV[at + 8]), "Callback", callback, "Priority", text(job.priority),
    "Status", "queued", "Pool", pool, "Demand", demand, "Nonce", nonce)
  if job.rank ~= natural_rank(job.ID) then store_rank(job) end
  redis.call("HSET", callbacks, callback, id)
  if stand(job) == 1 then
    pools[pool] = true
  end
  event("created", id, "", "queued")
  reply[#reply + 1] = redis.call("HGETALL", job_ .. id)
end
for pool in pairs(pools) do
  table.insert(reply[2], pool)
end
return reply
