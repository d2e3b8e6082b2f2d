-- recount: what calling and running jobs hold of hosts, and owners by them, summed from the jobs' hashes.
--
-- KEYS    running used: usage: heads wake job: damaged:
-- NEEDS   clock order owners job aside
-- ARGV    repair first most pools...
-- REPLY   how many were looked at, then of each fault {code, key, pool, more about it}; without pools of each sum
--         {"sum", key, field, amount}
-- ERRORS
--
-- Without pools it sums over so many of `running` from an index on, to be put together by who calls. With pools it
-- sums over all in one go, and compares what `used:` and `usage:` say of these.

local decoded, sums, looked = {}, {}, 0

local function add(name, field, amount)
  sums[name] = sums[name] or {}
  sums[name][field] = (sums[name][field] or 0) + amount
end

-- What a job holds, by <host>/<resource>, and by <owner>/<resource>; nothing of what cannot be read.
local function add_job(pool, owner, demand, placement)
  if decoded[demand] == nil then
    local readable, runs = pcall(cjson.decode, demand)
    decoded[demand] = readable and runs or false
  end
  local held, at = {}, 0
  local readable = pcall(function()
    local hosts = cjson.decode(placement)
    for _, run in ipairs(decoded[demand]) do
      for _ = 1, run[1] do
        at = at + 1
        for resource, amount in pairs(run[2]) do
          local field = hosts[at] .. "/" .. resource
          held[field] = (held[field] or 0) + amount
        end
      end
    end
  end)
  for field, amount in pairs(readable and held or {}) do
    add("used:" .. pool, field, amount)
  end
  for resource, amount in pairs(owner and sum_of(demand) or {}) do
    if amount ~= 0 then add("usage:" .. pool, coded(owner) .. "/" .. resource, amount) end
  end
end

local asked = {}
for i = pools + 1, #ARGV do asked[ARGV[i]] = true end
local whole_type = next(asked) ~= nil
for _, member in ipairs(redis.call("ZRANGE", running, first, whole_type and -1 or first + most - 1)) do
  looked = looked + 1
  local is = forgive(redis.pcall("HMGET", job_ .. id_of(member), "Status", "Pool", "Demand", "Placement", "OwnerID", "Observed"))
  -- One with no status that can be read holds what it holds, as examine.lua has it.
  if not is.err and is[1] ~= "queued" and not DONE[is[1]] and is[2] and (not whole_type or asked[is[2]]) then
    -- What a source sees itself is not charged to hosts.
    add_job(is[2], is[5], is[3] or "", not is[6] and is[4] or "")
  end
end
reply[2] = text(looked)
if not whole_type then
  for name, amounts in pairs(sums) do
    for field, amount in pairs(amounts) do
      found("sum", name, field, text(amount))
    end
  end
  return reply
end

local function compare(name, pool)
  if not (is_kind(name, "hash") or mending) then return false end
  local is, flat, changed, should = {}, redis.call("HGETALL", KEYS[1] .. name), false, sums[name] or {}
  for i = 1, #flat, 2 do is[flat[i]] = flat[i + 1] end
  for field, amount in pairs(should) do
    if is[field] ~= text(amount) then
      found("used", name, pool, field .. " is " .. (is[field] or "0") .. ", not " .. text(amount))
      changed = true
      if mending then redis.call("HSET", KEYS[1] .. name, field, text(amount)) end
    end
  end
  for field, amount in pairs(is) do
    if not should[field] then
      found("used", name, pool, field .. " is " .. amount .. ", not 0")
      changed = true
      if mending then redis.call("HDEL", KEYS[1] .. name, field) end
    end
  end
  return changed
end

for pool in pairs(asked) do
  local changed = compare("used:" .. pool, pool)
  changed = compare("usage:" .. pool, pool) or changed
  if changed and mending then
    look_again(pool)
    examine_afresh(pool)
  end
end
return reply
