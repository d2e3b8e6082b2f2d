-- owners: the waiting jobs of a pool by owner, and what each owner holds of it.
--
-- KEYS    queue apart line: owners: shares: firsts: skipped: usage: quotas: pools settings
-- NEEDS   clock order
--
-- By owner they stand only where it is of use: where a pool of the type has quotas, or the policy is fair. `apart`
-- says so: missing, or the place up to which those who waited before have been sorted, or "1". While it is there,
-- whoever comes or leaves is kept in `line:`. An owner stands in `owners:` with the place from which on it is looked
-- at, that of its first job; one whose first jobs may not go is in `skipped:`, and stands further back or not at all,
-- so that a pass has nothing to do with them, however many they are.

-- So many first jobs of an owner are looked at for one that may go.
local OWNER_LOOKS = 20

local settings_of_policy, is_apart = nil, nil

-- strict, backfill or fair; what a hand edit wrote is strict.
local function policy()
  settings_of_policy = settings_of_policy or redis.call("HGET", settings, "policy") or "strict"
  return settings_of_policy
end

local function by_owner()
  if is_apart == nil then is_apart = redis.call("EXISTS", apart) == 1 end
  return is_apart
end

-- From now on whoever waits stands by owner too; those who are there already are sorted by the passes to come.
-- `anew` also where they are sorted already.
local function sort_by_owner(anew)
  local begins = redis.call("EXISTS", queue) == 1 and "" or "1"
  if anew then redis.call("SET", apart, begins) else redis.call("SET", apart, begins, "NX") end
  is_apart = true
end

-- A name before a slash.
local function coded(name)
  return (string.gsub(name, "[%%/]", { ["%"] = "%25", ["/"] = "%2F" }))
end

local function line_of(pool, owner)
  return line_ .. coded(owner) .. "/" .. pool
end

-- A place as a text whose bytes compare as places do: the priority in 15 digits, the rank in 14.
local PLACE_DIGITS = 29
local function place_bytes(priority, member)
  local high = priority < 0 and "0" .. hex(priority + MAX_PRIORITY + 1) or "1" .. hex(priority)
  return high .. string.sub(member, 1, RANK_DIGITS)
end

-- The score and the rank, in hex, of such a text.
local function place_read(written)
  local high = tonumber(string.sub(written, 2, 15), 16)
  return string.sub(written, 1, 1) == "0" and high - MAX_PRIORITY - 1 or high, string.sub(written, 16, PLACE_DIGITS)
end

local sums_of = {}

-- What all instances of a demand ask for together; nothing of what cannot be read.
local function sum_of(demand)
  demand = demand or ""
  if sums_of[demand] then return sums_of[demand] end
  local sum = {}
  local readable = pcall(function()
    for _, run in ipairs(cjson.decode(demand)) do
      for resource, amount in pairs(run[2]) do
        sum[resource] = (sum[resource] or 0) + run[1] * amount
      end
    end
  end)
  sums_of[demand] = readable and sum or {}
  return sums_of[demand]
end

-- Add what a job asks for to what its owner holds (sign 1), or take it off again (-1).
local function count_usage(job, sign)
  local begin = coded(job.OwnerID) .. "/"
  for resource, amount in pairs(sum_of(job.Demand)) do
    local left = amount ~= 0 and forgive(redis.pcall("HINCRBY", usage_ .. job.Pool, begin .. resource, text(sign * amount)))
    if left == 0 then redis.call("HDEL", usage_ .. job.Pool, begin .. resource) end
  end
end

-- The largest share that an owner holds of all that a pool has of a resource: its dominant share, as in Ghodsi et
-- al., "Dominant Resource Fairness" (NSDI 2011).
local function share_of(pool, owner)
  local readable, totals = pcall(cjson.decode, redis.call("HGET", pools, pool) or "")
  local names, fields, share = {}, {}, 0
  for resource, total in pairs(readable and type(totals) == "table" and totals or {}) do
    if type(total) == "table" and (tonumber(total[2]) or 0) > 0 then
      names[#names + 1], fields[#fields + 1] = tonumber(total[2]), coded(owner) .. "/" .. resource
    end
  end
  for i, used in ipairs(#fields > 0 and redis.call("HMGET", usage_ .. pool, unpack(fields)) or {}) do
    share = math.max(share, (finite(used) or 0) / names[i])
  end
  return share
end

-- Have an owner stand at a place, or nowhere. Returns whether that is another one than before.
local function enter(pool, owner, place)
  local was = redis.call("HGET", firsts_ .. pool, owner)
  local share = place and policy() == "fair" and string.format("%.17g", share_of(pool, owner))
  if was and was ~= place then
    redis.call("ZREM", owners_ .. pool, was .. ":" .. owner)
    redis.call("ZREM", shares_ .. pool, was .. ":" .. owner)
  end
  if place then
    redis.call("HSET", firsts_ .. pool, owner, place)
    redis.call("ZADD", owners_ .. pool, 0, place .. ":" .. owner)
    if share then redis.call("ZADD", shares_ .. pool, share, place .. ":" .. owner) end
  elseif was then
    redis.call("HDEL", firsts_ .. pool, owner)
  end
  return (was or nil) ~= place
end

-- Have an owner stand where it belongs: by its first job; or where it was put by a pass, unless something has changed
-- about those that were skipped (`back`). Returns its place, where that is a new one.
local function rank_owner(pool, owner, back)
  local first = redis.call("ZRANGE", line_of(pool, owner), 0, 0, "WITHSCORES")
  if #first == 0 then
    redis.call("SREM", skipped_ .. pool, owner)
    enter(pool, owner, nil)
    return nil
  end
  if not back and redis.call("SISMEMBER", skipped_ .. pool, owner) == 1 then
    local was = redis.call("HGET", firsts_ .. pool, owner)
    if was then enter(pool, owner, was) end
    return nil
  end
  redis.call("SREM", skipped_ .. pool, owner)
  local place = place_bytes(tonumber(first[2]), first[1])
  return enter(pool, owner, place) and place or nil
end

-- A job stands in its pool now, by its owner too. Returns the owner's place, where that is a new one.
local function join_owner(job)
  local line = line_of(job.Pool, job.OwnerID)
  redis.call("ZADD", line, text(job.priority), job.member)
  return rank_owner(job.Pool, job.OwnerID, redis.call("ZRANK", line, job.member) < OWNER_LOOKS)
end

local function quit_owner(job)
  local line = line_of(job.Pool, job.OwnerID)
  local rank = redis.call("ZRANK", line, job.member)
  if not rank then return nil end
  redis.call("ZREM", line, job.member)
  return rank_owner(job.Pool, job.OwnerID, rank < OWNER_LOOKS)
end

-- All owners who were skipped are looked at again, and shares are reckoned anew: the pool or its quotas changed.
local function look_again(pool)
  if not by_owner() then return end
  for _, owner in ipairs(redis.call("SMEMBERS", skipped_ .. pool)) do
    rank_owner(pool, owner, true)
  end
  if policy() ~= "fair" then return end
  for _, owner in ipairs(redis.call("HKEYS", firsts_ .. pool)) do
    rank_owner(pool, owner, false)
  end
end

-- The resource of which a demand would bring its owner over its quota, what the owner holds, and the limit; or nil.
-- An owner's own quota, else that of "*"; what it does not name has no limit.
local function over_quota(pool, owner, demand)
  local own = redis.call("HMGET", quotas_ .. pool, owner, "*")
  local written = own[1] or own[2]
  if not written then return nil end
  local readable, limits = pcall(cjson.decode, written)
  if not readable or type(limits) ~= "table" then return nil end
  for resource, amount in pairs(sum_of(demand)) do
    local limit = tonumber(limits[resource])
    if limit and amount > 0 then
      local used = finite(redis.call("HGET", usage_ .. pool, coded(owner) .. "/" .. resource)) or 0
      if used + amount > limit then return resource, used, limit, amount end
    end
  end
  return nil
end
