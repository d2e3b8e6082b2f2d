-- job: what every script that moves a job shares. Each function keeps one set of keys in step.
--
-- KEYS    queue running ended due wake heads settings events job: history: owner: pool: used: blocked: passed: held: releases:
-- NEEDS   clock order owners
--
-- `heads` holds, for a pool that was examined, the place at which it stands still: no job before it may go, since it
-- never fits or its owner has too much, and (strict) nothing after it until the job there has gone. `blocked:` holds
-- demands that do not fit until somebody makes room (backfill, fair). `wake` holds the pools that have reason to be
-- examined again. All outlive any replica.

local FIELDS = {
  "Status", "Priority", "ID", "Rank", "OwnerID", "Pool", "Demand", "Placement", "Admission", "Nonce",
  "Callback", "Deadline", "UpdatedAt", "LastError", "Observed",
}

-- Those of them that say where a job stands.
local STANDING = { "Status", "Priority", "ID", "Rank", "OwnerID", "Pool" }

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

-- What an event says, in this order; what is empty is left out.
local SAID = { "what", "request_id", "owner_id", "from", "to", "actor", "why" }
-- A job's history keeps so many, the newest.
local HISTORY = 100

-- Say what happened, in the stream, and of a job in its history too: but for its creation, which its hash tells, so
-- that jobs that only wait have none. Where a hand edit made another kind of key of either, only what it told is lost.
-- Without a job it is about the queue. `actor` is the name of who asked for it; "" where nobody has to say who they
-- are, nil where it is the service.
local function event(what, job, from, to, actor, why)
  actor, why = actor or "", why or ""
  local words = {}
  for i, value in ipairs({ what, job and job.id or "", job and job.OwnerID or "", from, to, actor, why }) do
    if value ~= "" then words[#words + 1], words[#words + 2] = SAID[i], value end
  end
  local id = forgive(redis.pcall("XADD", events, "MAXLEN", "~", 10000, "*", unpack(words)))
  if not job or what == "created" or type(id) ~= "string" then return end
  if actor ~= "" then actor = string.gsub(actor, "\t", " ") end
  local line = id .. "\t" .. what .. "\t" .. from .. "\t" .. to .. "\t" .. actor .. "\t" .. why
  local length = forgive(redis.pcall("RPUSH", history_ .. job.id, line))
  if type(length) == "number" and length > HISTORY then redis.call("LTRIM", history_ .. job.id, -HISTORY, -1) end
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

-- So many behind the head are looked at for one that fits; who comes further back is no reason to look.
local LOOKS = 1000

-- Whether a job behind the head is to be looked at; `place` is its owner's, where it is another one than before.
local function may_pass(job, place, score, member)
  if policy() == "strict" then return place and bytes_before(place, place_bytes(score, member)) end
  if policy() == "fair" and not place then return false end
  if job.Demand and redis.call("SISMEMBER", blocked_ .. job.Pool, job.Demand) == 1 then return false end
  if policy() == "fair" then return true end
  local line = pool_ .. job.Pool
  local index = redis.call("ZRANK", line, job.member)
  return not index or index - (redis.call("ZRANK", line, member) or 0) <= LOOKS
end

-- After a job came to a place in its pool: may it go, or does it stand behind one that cannot?
local function came(job, place)
  local score, member = head_of(job.Pool)
  if score then
    if not precedes(job.priority, job.member, score, member) then
      return may_pass(job, place, score, member) and wake_pool(job.Pool) or 0
    end
    redis.call("HSET", heads, job.Pool, place_text(job.priority, job.member))
  end
  return wake_pool(job.Pool)
end

-- After a job left its place in its pool: was it one that the others wait behind?
local function went(job, place)
  local head = redis.call("HGET", heads, job.Pool)
  if head == place_text(job.priority, job.member) then return wake_pool(job.Pool) end
  if policy() == "strict" then
    local score, member = place_of(head or "")
    return place and score and bytes_before(place, place_bytes(score, member)) and wake_pool(job.Pool) or 0
  end
  -- Another one of its owner's, or one from behind those that are looked at, has its turn.
  return (place or redis.call("ZCARD", pool_ .. job.Pool) > LOOKS) and wake_pool(job.Pool) or 0
end

-- Some room was made in a pool: those that did not fit may now.
local function room_made(pool)
  redis.call("DEL", blocked_ .. pool)
  return wake_pool(pool)
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
  return came(job, by_owner() and join_owner(job) or nil)
end

-- Take a job out of its pool. Returns 1 where the pool should be examined.
local function quit_pool(job)
  redis.call("ZREM", pool_ .. job.Pool, job.member)
  local place = by_owner() and quit_owner(job) or nil
  if redis.call("EXISTS", pool_ .. job.Pool) == 0 then
    redis.call("HDEL", heads, job.Pool)
    return 0
  end
  return went(job, place)
end

local function leave_line(job)
  redis.call("ZREM", queue, job.member)
  if policy() ~= "strict" then redis.call("ZREM", passed_ .. job.Pool, job.id) end
  return quit_pool(job)
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

-- Of so many entries of `releases:` all but LAST go at once.
local FULL = 192
local LAST = 129
-- A demand of more bytes is not remembered.
local LONGEST = 256

-- Whether the first in line of a pool stands still for want of room.
local function stands_still(pool)
  local score = head_of(pool)
  return score and score >= -MAX_PRIORITY and score <= MAX_PRIORITY
end

-- Write down when a pool released something while others waited for it, or without a demand, that from now on
-- somebody waits: from that it is estimated when they start.
local function remember(pool, now_us, demand)
  if demand and (#demand > LONGEST or demand == "") then return end
  local entry = text(now_us) .. (demand and " " .. demand or "")
  local length = forgive(redis.pcall("RPUSH", releases_ .. pool, entry))
  if type(length) == "number" and length >= FULL then redis.call("LTRIM", releases_ .. pool, -LAST, -1) end
end

-- Take a calling or running job from its hosts.
local function release(job, now_us)
  redis.call("ZREM", running, job.member)
  -- Before it leaves `due`, so that one whose capacity could not be given back is looked at again.
  if not job.Observed then charge(job, -1) end
  if job.Status ~= "calling" then forgive(redis.pcall("ZREM", held_ .. job.Pool, job.id)) end
  redis.call("ZREM", due, job.id)
  redis.call("HDEL", job_ .. job.id, "Placement", "Deadline", "Observed")
  count_usage(job, -1)
  if by_owner() then rank_owner(job.Pool, job.OwnerID, true) end
  if stands_still(job.Pool) then remember(job.Pool, now_us, job.Demand or "") end
  return room_made(job.Pool)
end

-- A job that neither waits nor holds capacity any more ends: it stays readable until it is purged.
local function finish(job, status, now, retention, actor, why)
  redis.call("HSET", job_ .. job.id, "Status", status, "DeletedAt", text(now), "UpdatedAt", text(now))
  forgive(redis.pcall("ZREM", owner_ .. job.OwnerID, job.member))
  redis.call("ZADD", ended, text(now), job.id)
  redis.call("ZADD", due, text(milliseconds(now) + retention * 1000), job.id)
  event(status, job, job.Status, status, actor, why)
end
