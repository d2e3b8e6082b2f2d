-- job: what every script that moves a job shares. Each function keeps one set of keys in step.
--
-- KEYS    queue running ended due wake heads settings events job: owner: pool: used: held:
-- NEEDS   clock order
--
-- `heads` holds, for a pool that was examined, the place at which it stands still: no empty pool
-- could hold a job before it, and nothing after it may go until the job there has gone (strict).
-- `wake` holds the pools that have reason to be examined again. Both outlive any replica.

local FIELDS = {
  "Status", "Priority", "ID", "Rank", "OwnerID", "Pool", "Demand", "Placement", "Admission", "Nonce",
  "Callback", "Deadline", "UpdatedAt", "LastError", "Observed",
}

-- Those of them that say where a job stands.
local STANDING = { "Status", "Priority", "ID", "Rank", "OwnerID", "Pool" }

-- What redis.pcall answered, where a hand edit may be why Redis refuses: a key of another kind, or what is no
-- number, or too large a one. Any other refusal, as of a command that the Redis user may not run, is no fault
-- of the key, and is raised again.
local function forgive(reply)
  if type(reply) == "table" and reply.err then
    for _, said in ipairs({ "WRONGTYPE", "not an integer", "out of range", "not a valid float", "overflow",
      "not a number", "exhausted the last possible ID" }) do
      if string.find(reply.err, said, 1, true) then return reply end
    end
    error(reply)
  end
  return reply
end

local function natural_rank(id)
  return tonumber(id) * RANK_STEP
end

-- A number from the queue's settings; what a hand edit made unreadable counts as not set.
local function setting(name, default)
  return finite(redis.call("HGET", settings, name)) or tonumber(default)
end

-- A job from its fields, or nil. A hash that was cut by hand counts as none.
local function whole(id, job)
  local priority, number = tonumber(job.Priority), tonumber(job.ID)
  if not (job.Status and priority and number and job.OwnerID and job.Pool) then return nil end
  -- Nor is there a place for what tonumber takes too: nan, inf and fractions.
  if not (number % 1 == 0 and number >= 0 and number <= MAX_ID) then return nil end
  if not (priority % 1 == 0 and priority >= -MAX_PRIORITY and priority <= MAX_PRIORITY) then return nil end
  job.id = id
  job.priority = priority
  job.rank = job.Rank and tonumber(job.Rank, 16) or natural_rank(job.ID)
  job.member = hex(job.rank) .. ":" .. id
  return job
end

-- The fields of a job that scripts use, or only those asked for; or nil.
local function load(id, fields)
  fields = fields or FIELDS
  local values = redis.pcall("HMGET", job_ .. id, unpack(fields))
  if values.err then
    forgive(values)
    return nil
  end
  local job = {}
  for i, name in ipairs(fields) do
    job[name] = values[i] or nil
  end
  return whole(id, job)
end

-- All fields of a job as a map and as the list that HGETALL answers, and the bytes of their values;
-- none for what is no hash.
local function all_fields(id)
  local fields, map, bytes = redis.pcall("HGETALL", job_ .. id), {}, 0
  if fields.err then fields = forgive(fields) and {} end
  for i = 1, #fields, 2 do
    map[fields[i]] = fields[i + 1]
    bytes = bytes + #fields[i + 1]
  end
  return map, fields, bytes
end

-- A job's fields for the reply, where the caller wants them.
local function wanted(job, want)
  return want == "1" and redis.call("HGETALL", job_ .. job.id) or {}
end

-- Events that a hand edit made another kind of key are lost; what they tell of goes on.
-- `actor` is the name of who asked for it; "" where nobody has to say who they are, nil where it is the service.
local function event(what, id, from, to, actor)
  if (actor or "") == "" then
    forgive(redis.pcall("XADD", events, "MAXLEN", "~", 10000, "*", "what", what, "request_id", id, "from", from, "to", to))
  else
    forgive(redis.pcall("XADD", events, "MAXLEN", "~", 10000, "*",
      "what", what, "request_id", id, "from", from, "to", to, "actor", actor))
  end
end

-- Whether who asks may know of a job: `owners` is "" for all, else a JSON list of theirs, made by the service.
-- A job that is not there and one that is another's take the same way, so that not even time tells one from
-- the other.
local function known_to(owners, id)
  if owners == "" then return true end
  local owner = forgive(redis.pcall("HGET", job_ .. id, "OwnerID"))
  for _, own in ipairs(cjson.decode(owners)) do
    if own == owner then return true end
  end
  return false
end

-- Say that a pool may admit something. Returns 1, which scripts pass on so that their caller looks at once.
local function wake_pool(pool)
  redis.call("SADD", wake, pool)
  return 1
end

-- Where a pool stands still: a score and a member, or nil.
local function head_of(pool)
  return place_of(redis.call("HGET", heads, pool) or "")
end

-- After a job came to a place in its pool: may it go, or does it stand behind one that cannot?
local function came(job)
  local score, member = head_of(job.Pool)
  if score then
    if not precedes(job.priority, job.member, score, member) then return 0 end
    redis.call("HSET", heads, job.Pool, place_text(job.priority, job.member))
  end
  return wake_pool(job.Pool)
end

-- After a job left its place in its pool: was it the one that the others wait behind?
local function went(job)
  if redis.call("HGET", heads, job.Pool) == place_text(job.priority, job.member) then
    return wake_pool(job.Pool)
  end
  return 0
end

local function store_rank(job)
  if job.rank == natural_rank(job.ID) then
    if job.Rank then redis.call("HDEL", job_ .. job.id, "Rank") end
  else
    redis.call("HSET", job_ .. job.id, "Rank", hex(job.rank))
  end
end

-- Put a job in line at job.priority and job.rank. Returns 1 where its pool should be examined.
local function stand(job)
  job.member = hex(job.rank) .. ":" .. job.id
  local score = text(job.priority)
  redis.call("ZADD", queue, score, job.member)
  -- Only a list needs it: of another kind by a hand edit, it holds up nobody.
  forgive(redis.pcall("ZADD", owner_ .. job.OwnerID, score, job.member))
  redis.call("ZADD", pool_ .. job.Pool, score, job.member)
  return came(job)
end

local function leave_line(job)
  redis.call("ZREM", queue, job.member)
  redis.call("ZREM", pool_ .. job.Pool, job.member)
  if redis.call("EXISTS", pool_ .. job.Pool) == 0 then
    redis.call("HDEL", heads, job.Pool)
    return 0
  end
  return went(job)
end

-- Add a job's demand to what its hosts hold (sign 1), or take it off again (-1). What a hand edit made
-- unreadable is left alone: one damaged job must not hold up the others. Returns what changed, by <host>/<resource>.
local function charge(job, sign)
  local changes = {}
  local readable = pcall(function()
    local hosts, at = cjson.decode(job.Placement), 0
    for _, run in ipairs(cjson.decode(job.Demand)) do
      for _ = 1, run[1] do
        at = at + 1
        for resource, amount in pairs(run[2]) do
          local field = hosts[at] .. "/" .. resource
          changes[field] = (changes[field] or 0) + sign * amount
        end
      end
    end
  end)
  changes = readable and changes or {}
  for field, change in pairs(changes) do
    local used = change ~= 0 and forgive(redis.pcall("HINCRBY", used_ .. job.Pool, field, text(change)))
    if used == 0 then redis.call("HDEL", used_ .. job.Pool, field) end
  end
  return changes
end

-- The host of all instances of a job, or nil where there are several, or none to be read.
local function only_host(job)
  local readable, placement = pcall(cjson.decode, job.Placement)
  if not readable or type(placement) ~= "table" then return nil end
  for _, host in ipairs(placement) do
    if host ~= placement[1] then return nil end
  end
  return type(placement[1]) == "string" and placement[1] or nil
end

-- Take a calling or running job from its hosts.
local function release(job)
  redis.call("ZREM", running, job.member)
  -- Before it leaves `due`, so that one whose capacity could not be given back is looked at again.
  if not job.Observed then charge(job, -1) end
  if job.Status ~= "calling" then forgive(redis.pcall("ZREM", held_ .. job.Pool, job.id)) end
  redis.call("ZREM", due, job.id)
  redis.call("HDEL", job_ .. job.id, "Placement", "Deadline", "Observed")
  return wake_pool(job.Pool)
end

-- A job that neither waits nor holds capacity any more ends: it stays readable until it is purged.
local function finish(job, status, now, retention, actor)
  redis.call("HSET", job_ .. job.id, "Status", status, "DeletedAt", text(now), "UpdatedAt", text(now))
  forgive(redis.pcall("ZREM", owner_ .. job.OwnerID, job.member))
  redis.call("ZADD", ended, text(now), job.id)
  redis.call("ZADD", due, text(milliseconds(now) + retention * 1000), job.id)
  event(status, job.id, job.Status, status, actor)
end
