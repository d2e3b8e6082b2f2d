-- observe: write what a source says of a live pool, and end the charges of jobs whose use it shows by then.
--
-- KEYS    reader sources observed source_errors pools projects heads wake capacity: seen: limits: held: blocked: pool: job:
-- NEEDS   clock order owners job live said
-- ARGV    replica pool found_by was began capacity_changes seen_changes limits_changes growth bounds projects_gone projects_new last most
-- REPLY   1 where the pool is to be examined, else 0; 1 where there may be more charges to end, else 0
-- ERRORS  lost_claim
--
-- The changes are JSON {"<host>/<resource>": "amount", or "" where it is gone}, against what was there when `observed`
-- said `was`; `growth` is how much more is free by them, of each field. What is much is written in steps: until
-- the last one the pool is as one that was never read, and admits nobody.
--
-- What the source says was so after `began`. A job of which it was to see all by then is in it, so its charge ends in
-- this step, or, of many, in the ones after it; the others stay charged, although it may see them already: too little
-- may be free, never too much.

local _, holder = string.match(redis.call("GET", reader) or "", "^(%d+):(.*)$")
if holder ~= replica or redis.call("HGET", sources, pool) ~= found_by or redis.call("HGET", observed, pool) ~= was then
  return { "lost_claim" }
end

-- What changes of what its hosts have, before it does; what is used of it changes all the time.
local function say_capacity(changes)
  local fields, count = differing({}, changes)
  if count == 0 then return end
  local was = redis.call("HMGET", capacity_ .. pool, unpack(fields))
  for i, field in ipairs(fields) do
    fields[i] = amount_said(field, was[i] or nil, changes[field] ~= "" and changes[field] or nil)
  end
  event("capacity", nil, pool, pool, nil, listed(fields, count))
end

local function write(key, changes)
  local set, gone = {}, {}
  local function flush()
    if #set > 0 then redis.call("HSET", key, unpack(set)) end
    if #gone > 0 then redis.call("HDEL", key, unpack(gone)) end
    set, gone = {}, {}
  end
  local changed = false
  for field, amount in pairs(changes) do
    changed = true
    if amount == "" then
      gone[#gone + 1] = field
    else
      set[#set + 1] = field
      set[#set + 1] = amount
    end
    if #set + #gone >= 500 then flush() end
  end
  flush()
  return changed
end

local hosts = cjson.decode(capacity_changes)
say_capacity(hosts)
local other_hosts = write(capacity_ .. pool, hosts)
other_hosts = write(limits_ .. pool, cjson.decode(limits_changes)) or other_hosts
write(seen_ .. pool, cjson.decode(seen_changes))
if last ~= "1" then
  redis.call("HSET", observed, pool, "0")
  return { "ok", 0, 0 }
end

local grew = cjson.decode(growth)
local ids = redis.call("ZRANGEBYSCORE", held_ .. pool, "-inf", began, "LIMIT", 0, tonumber(most))
local more = #ids == tonumber(most) and 1 or 0
for _, id in ipairs(ids) do
  local job = load(id)
  if job and job.Status == "running" and job.Pool == pool and not job.Observed then
    for field, change in pairs(charge(job, -1)) do
      grew[field] = (grew[field] or 0) - change
    end
    redis.call("HSET", job_ .. id, "Observed", began)
    redis.call("ZADD", held_ .. pool, "inf", id)
  else
    redis.call("ZREM", held_ .. pool, id)
  end
end

redis.call("HSET", observed, pool, began)
redis.call("HDEL", source_errors, pool)
if redis.call("HGET", pools, pool) ~= bounds then redis.call("HSET", pools, pool, bounds) end
for _, project in ipairs(cjson.decode(projects_gone)) do
  if redis.call("HGET", projects, project) == pool then redis.call("HDEL", projects, project) end
end
for _, project in ipairs(cjson.decode(projects_new)) do
  if redis.call("HEXISTS", projects, project) == 0 then redis.call("HSET", projects, project, pool) end
end

-- Whether someone may go now who could not before.
local afresh = other_hosts or was == "0" or redis.call("HGET", heads, pool) == NOBODY
local room = afresh
for _, by in pairs(grew) do
  room = room or by > 0
end
if not room then return { "ok", 0, more } end
redis.call("DEL", blocked_ .. pool)
-- What never fitted may fit other hosts, and shares are of other totals.
if other_hosts or was == "0" then look_again(pool) end
if redis.call("EXISTS", pool_ .. pool) == 0 then return { "ok", 0, more } end
if afresh then redis.call("HDEL", heads, pool) end
return { "ok", wake_pool(pool), more }
