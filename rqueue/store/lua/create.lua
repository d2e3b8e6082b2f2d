-- create: put one or many new jobs in line, all or none.
--
-- KEYS    queue seq callbacks settings job: owner: pool:
-- NEEDS   clock order owners job place resolve
-- ARGV    nonce default_pool traceparent now actor owners drafts...
-- REPLY   pools to wake as a list, CreatedAt, then of each job: its ID, Priority, and Pool as JSON
-- ERRORS  duplicate_request_id duplicate_callback queue_full
--
-- A draft is nine arguments, in the order of `Draft`. `nonce` is of this call: when a client library
-- sends it a second time because the answer was lost, the jobs are there and are answered again.

local WIDTH = 9
local hashes, targets = {}, {}
for at = drafts + 1, #ARGV, WIDTH do
  hashes[#hashes + 1], targets[#targets + 1] = job_ .. ARGV[at], ARGV[at + 2]
end
local count = #hashes
local there = redis.call("EXISTS", unpack(hashes))
if there > 0 then
  -- All are created or none: where all are there and one is of this call, the others only have changed since.
  local ran = false
  for i = 1, there == count and count or 0 do
    ran = ran or forgive(redis.pcall("HGET", hashes[i], "Nonce")) == nonce
  end
  for i = 1, ran and 0 or count do
    if redis.call("EXISTS", hashes[i]) == 1 then
      return { "duplicate_request_id", i - 1, ARGV[drafts + 1 + (i - 1) * WIDTH] }
    end
  end
  local reply = { "ok", {}, redis.call("HGET", hashes[1], "CreatedAt") }
  for i = 1, count do
    local was = redis.call("HMGET", hashes[i], "ID", "Priority", "Pool")
    reply[i * 3 + 1], reply[i * 3 + 2], reply[i * 3 + 3] = was[1], was[2], json(was[3] or "")
  end
  return reply
end
local holders, ids, given = redis.call("HMGET", callbacks, unpack(targets)), {}, {}
for i = 1, count do
  local id, callback = ARGV[drafts + 1 + (i - 1) * WIDTH], targets[i]
  if ids[id] then return { "duplicate_request_id", i - 1, id } end
  local holder = holders[i] or given[callback]
  if holder then
    return { "duplicate_callback", i - 1, (given[callback] or known_to(owners, holder)) and holder or "" }
  end
  ids[id], given[callback] = true, id
end
local set = redis.call("HMGET", settings, "max_queued", "default_pool", "policy")
settings_of_policy = set[3] or "strict"
local max_queued = tonumber(set[1] or "")
if max_queued and redis.call("ZCARD", queue) + count > max_queued then return { "queue_full", max_queued } end

local now_us = moment(now)
local created = text(now_us)
local number = redis.call("INCRBY", seq, count) - count
assert(number >= 0 and number + count <= MAX_ID, seq .. " is no ID of a job")
local last = redis.call("ZREVRANGE", queue, 0, 0, "WITHSCORES")[2]
-- The priority of one that comes last: when it came, or one more than the last has.
local back = math.max(now_us, last and tonumber(last) + 1 or now_us)
local woken, reply, named = {}, { "ok", {}, created }, {}
local first, places, wish, project, pool, written = nil, nil, nil, nil, nil, nil
-- Those of them that ask for something else than the one before.
local asking = nil

-- Those that follow each other, of one owner and in one pool, go in line together: in an array of 500 that
-- is half of the work of each.
local function line_up()
  redis.call("ZADD", pool_ .. first.Pool, unpack(places))
  redis.call("ZADD", queue, unpack(places))
  forgive(redis.pcall("ZADD", owner_ .. first.OwnerID, unpack(places)))
  local place = nil
  if by_owner() then
    local line = line_of(first.Pool, first.OwnerID)
    redis.call("ZADD", line, unpack(places))
    place = rank_owner(first.Pool, first.OwnerID, redis.call("ZRANK", line, first.member) < OWNER_LOOKS)
  end
  for _, job in ipairs(asking) do
    if came(job, place) == 1 then
      woken[first.Pool] = true
      break
    end
  end
  first = nil
end

for i = 1, count do
  local at = drafts + 1 + (i - 1) * WIDTH
  local id, owner_id, asked = ARGV[at], ARGV[at + 1], ARGV[at + 3]
  if not first or first.OwnerID ~= owner_id or ARGV[at + 5] ~= wish or ARGV[at + 6] ~= project then
    wish, project = ARGV[at + 5], ARGV[at + 6]
    pool = resolve(wish, project, owner_id, set[2] or default_pool)
    written = json(pool)
    if first and (first.OwnerID ~= owner_id or first.Pool ~= pool) then line_up() end
  end
  number = number + 1
  local job = { id = id, OwnerID = owner_id, Pool = pool, ID = text(number) }
  if asked == "" and back <= MAX_PRIORITY then
    job.priority, job.rank = back, natural_rank(number)
  else
    if first then line_up() end
    job.priority, job.rank = place_at(job, tonumber(asked) or MAX_PRIORITY)
  end
  back = math.max(back, job.priority + 1)
  local priority = text(job.priority)
  redis.call("HSET", hashes[i],
    "ID", job.ID, "CreatedAt", created, "UpdatedAt", created, "OwnerID", owner_id,
    "Data", ARGV[at + 7] .. written .. ARGV[at + 8], "Callback", targets[i], "Priority", priority,
    "Status", "queued", "Pool", pool, "Demand", ARGV[at + 4], "Nonce", nonce)
  if actor ~= "" then redis.call("HSET", hashes[i], "CreatedBy", actor) end
  if traceparent ~= "" then redis.call("HSET", hashes[i], "Traceparent", traceparent) end
  store_rank(job)
  named[i * 2 - 1], named[i * 2] = targets[i], id
  job.member = hex(job.rank) .. ":" .. id
  job.Demand = ARGV[at + 4]
  if not first then
    first, places, asking = job, {}, { job }
  elseif settings_of_policy ~= "strict" and asking[#asking].Demand ~= job.Demand then
    asking[#asking + 1] = job
  end
  places[#places + 1], places[#places + 2] = priority, job.member
  event("created", job, "", "queued", actor)
  reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = job.ID, priority, written
end
line_up()
redis.call("HSET", callbacks, unpack(named))
for name in pairs(woken) do
  table.insert(reply[2], name)
end
return reply
