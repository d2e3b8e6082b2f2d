-- inspect: look at a part of one of the keys that lead to jobs, or say what a pool is: does each of its members
-- belong there? What does not is told, and with `repair` taken out; a field that a hash lost and its place tells
-- is given back.
--
-- KEYS    queue running ended due callbacks capacity: pools projects seq heads wake settings sources observed job: history: owner: pool: used: seen: limits: held: quotas: passed: apart line: owners: shares: firsts: skipped: damaged:
-- NEEDS   clock order owners job pack aside
-- ARGV    repair place kind cursor count
-- REPLY   the cursor of the next part, "0" at the end, then of each fault {code, key, request_id, more about it}
-- ERRORS
--
-- `place` is a name of keys.KEYS, with what follows where it is a prefix. Each member is looked at in one go with
-- its job. Whether a job stands everywhere where it should is for examine.lua.

local key = KEYS[1] .. place
reply[2] = "0"
if not is_kind(place, kind) then return reply end
local base, of = string.match(place, "^(%a+:)(.*)$")
base = base or place

local function take_out(code, id, about, command, member)
  found(code, place, id, about)
  if mending then redis.call(command, key, member) end
end

-- A field that is not there, from a place that tells it.
local function give_back(id, field, value)
  found("field", "job:" .. id, id, field .. " is missing")
  if mending then redis.call("HSET", job_ .. id, field, value) end
end

local function is_gone(id)
  return redis.call("EXISTS", job_ .. id) == 0
end

local look = {}

local function in_line(member)
  local id = id_of(member)
  local written = forgive(redis.pcall("HMGET", job_ .. id, unpack(STANDING)))
  -- Of another kind: that is for examine.lua.
  if written.err then return end
  local has = {}
  for i, field in ipairs(STANDING) do has[field] = written[i] or nil end
  if next(has) == nil and is_gone(id) then
    return take_out("stranger", id, member .. ": no such job", "ZREM", member)
  end
  local line = LIVE[has.Status]
  if base == "owner:" and not has.OwnerID and line then return give_back(id, "OwnerID", of) end
  if base == "pool:" and not has.Pool and has.Status == "queued" then return give_back(id, "Pool", of) end
  local rank = string.sub(member, 1, RANK_DIGITS)
  if (base == "queue" or base == "running") and has.Rank and not ranked(has.Rank) and ranked(rank) then
    found("field", "job:" .. id, id, "Rank is " .. string.sub(has.Rank, 1, 80))
    if mending then
      field_aside("job:" .. id, "Rank", has.Rank)
      redis.call("HSET", job_ .. id, "Rank", rank)
    end
    return
  end
  local job = whole(id, has)
  if not job or not (line or DONE[has.Status]) then return end
  local right = job.member == member
    and ((base == "owner:" and line and of == job.OwnerID)
      or (base == "pool:" and line == "queue" and of == job.Pool)
      or (base == "line:" and line == "queue" and place == string.sub(line_of(job.Pool, job.OwnerID), #KEYS[1] + 1))
      or base == line)
  if not right then
    take_out("stranger", id, member .. ": job " .. id .. " does not stand here", "ZREM", member)
    if mending and base == "pool:" then examine_afresh(of) end
  end
end
look["queue"], look["running"], look["owner:"], look["pool:"], look["line:"] = in_line, in_line, in_line, in_line, in_line

-- An owner's entry among those of a pool: the place with which it stands there, and whose line that is.
local function stands_by_owner(member)
  local at, owner = string.sub(member, 1, PLACE_DIGITS), string.sub(member, PLACE_DIGITS + 2)
  if forgive(redis.pcall("HGET", firsts_ .. of, owner)) == at and redis.call("EXISTS", line_of(of, owner)) == 1 then return end
  take_out("stranger", nil, member .. ": no owner stands there", "ZREM", member)
  if mending then stand_owner(of, owner) end
end
look["owners:"], look["shares:"] = stands_by_owner, stands_by_owner

look["firsts:"] = function(owner, at)
  local score = forgive(redis.pcall("ZSCORE", owners_ .. of, at .. ":" .. owner))
  local shared = policy() ~= "fair" or type(forgive(redis.pcall("ZSCORE", shares_ .. of, at .. ":" .. owner))) == "string"
  if type(score) == "string" and tonumber(score) == 0 and shared and redis.call("EXISTS", line_of(of, owner)) == 1 then return end
  take_out("stranger", nil, owner .. ": does not stand so among the owners", "HDEL", owner)
  if mending then stand_owner(of, owner) end
end

look["passed:"] = function(id, since)
  local is = forgive(redis.pcall("HMGET", job_ .. id, "Status", "Pool"))
  if not is.err and is[1] == "queued" and is[2] == of and counted(since, 0, MAX_PRIORITY) then return end
  take_out("stranger", id, "no job that waits there was passed over then", "ZREM", id)
end

look["quotas:"] = function(owner, written)
  local readable, limits = pcall(cjson.decode, written)
  readable = readable and type(limits) == "table"
  for resource, limit in pairs(readable and limits or {}) do
    readable = readable and type(resource) == "string" and type(limit) == "number" and limit >= 0
  end
  if readable then return end
  found("quota", place, of, owner .. ": " .. string.sub(written, 1, 80))
  if mending then field_aside(place, owner, written) end
end

look["ended"] = function(id)
  local status = forgive(redis.pcall("HGET", job_ .. id, "Status"))
  if LIVE[status] or (not status and is_gone(id)) then take_out("stranger", id, "no such ended job", "ZREM", id) end
end

look["due"] = function(id)
  local status = forgive(redis.pcall("HGET", job_ .. id, "Status"))
  if status == "queued" or (not status and is_gone(id)) then
    take_out("stranger", id, "nothing is due of such a job", "ZREM", id)
  end
end

look["callbacks"] = function(callback, id)
  local written = forgive(redis.pcall("HGET", job_ .. id, "Callback"))
  local gone = not written and is_gone(id)
  if not written and not gone then return give_back(id, "Callback", callback) end
  if gone or (type(written) == "string" and written ~= callback) then
    take_out("callback", id, callback .. ": job " .. id .. " has not this callback", "HDEL", callback)
  end
end

look["capacity:"] = function(field, amount)
  if string.match(field, "^[^/]*/.+$") and counted(amount, 0, MAX_PRIORITY) then return end
  found("amount", place, of, field .. " is " .. amount)
  if mending then field_aside(place, field, amount) end
end

look["seen:"] = look["capacity:"]
look["limits:"] = look["capacity:"]

look["held:"] = function(id, moment)
  local job = load(id)
  if job and job.Status == "running" and job.Pool == of and not job.Observed and tonumber(moment) == math.huge then
    -- It was seen before, as far as anybody can tell: the next observation ends its charge.
    found("score", place, id, moment .. ", and it is charged")
    if mending then redis.call("ZADD", key, "0", id) end
    return
  end
  if job and (job.Status ~= "running" or job.Pool ~= of) or not job and is_gone(id) then
    take_out("stranger", id, "it does not run here", "ZREM", id)
  end
end

look["sources"] = function(pool)
  if forgive(redis.pcall("HEXISTS", observed, pool)) ~= 0 then return end
  found("observed", "observed", pool, "missing")
  if mending then redis.call("HSET", observed, pool, "0") end
end

look["observed"] = function(pool, written)
  if forgive(redis.pcall("HEXISTS", sources, pool)) == 0 then
    found("unread", place, pool, "nothing in `sources`")
  elseif not counted(written, 0, MAX_PRIORITY) then
    found("observed", place, pool, string.sub(written, 1, 80))
    if mending then redis.call("HSET", observed, pool, "0") end
  end
end

look["source_errors"] = function(pool)
  if forgive(redis.pcall("HEXISTS", sources, pool)) == 0 then
    take_out("stranger", pool, "no such live pool", "HDEL", pool)
  end
end

-- What the largest host of a pool has of each resource and what all have, as Pool.bounds writes it.
local function bounds_of(pool)
  local resources, bounds, flat = {}, {}, redis.call("HGETALL", capacity_ .. pool)
  for i = 1, #flat, 2 do
    local resource, amount = string.match(flat[i], "^[^/]*/(.*)$"), counted(flat[i + 1], 0, MAX_PRIORITY)
    if resource and amount then
      local has = bounds[resource]
      if not has then
        has = { 0, 0 }
        bounds[resource], resources[#resources + 1] = has, resource
      end
      has[1], has[2] = math.max(has[1], amount), has[2] + amount
    end
  end
  local written = {}
  for i, resource in ipairs(resources) do
    local has = bounds[resource]
    written[i] = cjson.encode(resource) .. ":[" .. text(has[1]) .. "," .. text(has[2]) .. "]"
  end
  return bounds, "{" .. table.concat(written, ",") .. "}"
end

look["pools"] = function(pool, written)
  local readable, was = pcall(cjson.decode, written)
  local bounds, should = bounds_of(pool)
  local same = readable and type(was) == "table"
  for resource, has in pairs(bounds) do
    local is = same and was[resource]
    same = type(is) == "table" and is[1] == has[1] and is[2] == has[2]
  end
  for resource in pairs(same and was or {}) do
    same = same and bounds[resource] ~= nil
  end
  if same then return end
  found("bounds", place, pool, string.sub(written, 1, 200))
  if mending then
    redis.call("HSET", pools, pool, should)
    examine_afresh(pool)
  end
end

look["projects"] = function(project, pool)
  if forgive(redis.pcall("HEXISTS", pools, pool)) == 1 then return end
  found("project", place, pool, project)
  if mending then field_aside(place, project, pool) end
end

-- Of those who stand before the place at which a pool stands still, so many are asked whether they could go.
local LOOKS = 16

look["heads"] = function(pool, written)
  local line, score, member = pool_ .. pool, place_of(written)
  local waiting = forgive(redis.pcall("ZCARD", line))
  if type(waiting) ~= "number" then return end
  local stale = not score or waiting == 0
  local sentinel = score and member == "" and math.abs(score) > MAX_PRIORITY
  local has = not stale and forgive(redis.pcall("HLEN", capacity_ .. pool))
  if not stale and forgive(redis.pcall("SISMEMBER", wake, pool)) == 0 then
    if not sentinel then
      stale = tonumber(redis.call("ZSCORE", line, member) or "") ~= score
    elseif score < 0 then
      -- Said to have no hosts.
      stale = type(has) == "number" and has > 0
    end
  end
  -- Where `used` is of another kind, that is told already.
  if not stale and type(has) == "number" and has > 0 and type(forgive(redis.pcall("HLEN", used_ .. pool))) == "number" then
    local hosts, earlier = nil, math.min(before(line, score, member), LOOKS)
    for _, one in ipairs(earlier > 0 and redis.call("ZRANGE", line, 0, earlier - 1) or {}) do
      hosts = hosts or hosts_of(pool)
      local job = load(id_of(one))
      local readable, runs = pcall(runs_of, job and job.Demand or "", pool)
      stale = stale or (readable and possible(runs, hosts) and not (by_owner() and over_quota(pool, job.OwnerID, job.Demand)))
    end
  end
  if not stale then return end
  found("head", place, pool, written)
  if mending then
    redis.call("HDEL", heads, pool)
    if waiting > 0 then wake_pool(pool) end
  end
end

if place == "apart" then
  if not by_owner() and policy() == "fair" then
    found("apart", place)
    if mending then sort_by_owner(true) end
  end
  return reply
end
if place == "seq" then
  local number = redis.call("GET", seq)
  if number and not counted(number, 0, MAX_ID) then
    found("seq", place, "", number)
    -- What is the largest is found out from the jobs.
    if mending then key_aside(place) end
  end
  return reply
end
if cursor == "0" and redis.call("EXISTS", key) == 1 then
  if base == "capacity:" and forgive(redis.pcall("HEXISTS", pools, of)) == 0 then
    found("bounds", "pools", of, "missing")
    if mending then
      local _, written = bounds_of(of)
      redis.call("HSET", pools, of, written)
      examine_afresh(of)
    end
  elseif base == "pool:" and forgive(redis.pcall("HEXISTS", heads, of)) == 0 and forgive(redis.pcall("SISMEMBER", wake, of)) == 0 then
    found("asleep", place, of)
    if mending then wake_pool(of) end
  end
end
if cursor == "0" and base == "quotas:" and redis.call("EXISTS", key) == 1 and not by_owner() then
  found("apart", "apart", of)
  if mending then sort_by_owner(true) end
end
if base == "history:" and redis.call("EXISTS", key) == 1 and is_gone(of) then
  found("stranger", place, of, "no such job")
  if mending then key_aside(place) end
end
if not look[base] then return reply end
local part = nil
if kind == "zset" then
  part = redis.call("ZSCAN", key, cursor, "COUNT", count)
else
  part = redis.call("HSCAN", key, cursor, "COUNT", count)
end
reply[2] = part[1]
for i = 1, #part[2], 2 do
  look[base](part[2][i], part[2][i + 1])
end
return reply
