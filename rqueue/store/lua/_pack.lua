-- pack: which hosts take a job's instances.
--
-- KEYS    capacity: used:
-- NEEDS   clock
--
-- Best-fit decreasing on the dominant share: instances in falling order of the largest share that
-- one of their resources has of the whole pool, each on the fullest host that still holds it.
-- A greedy rule: it may miss a packing that a search would find, and never invents one.

-- The hosts of a pool: host → { capacity = {resource → amount}, used = {…} }, and the pool's totals.
local function hosts_of(pool)
  local hosts, total = {}, {}
  for kind, key in pairs({ capacity = capacity_ .. pool, used = used_ .. pool }) do
    local flat = redis.call("HGETALL", key)
    for i = 1, #flat, 2 do
      local slash = string.find(flat[i], "/", 1, true)
      local amount = tonumber(flat[i + 1])
      if slash and amount then
        local name, resource = string.sub(flat[i], 1, slash - 1), string.sub(flat[i], slash + 1)
        local host = hosts[name]
        if not host then
          host = { name = name, capacity = {}, used = {} }
          hosts[name] = host
        end
        host[kind][resource] = amount
        if kind == "capacity" then
          total[resource] = (total[resource] or 0) + amount
        end
      end
    end
  end
  return hosts, total
end

-- The dominant share of a host that is used, for choosing the fullest.
local function fullness(host, used)
  local most = 0
  for resource, amount in pairs(used) do
    local capacity = host.capacity[resource] or 0
    if capacity > 0 then
      most = math.max(most, amount / capacity)
    end
  end
  return most
end

-- How many instances of a shape still fit on a host.
local function room(host, used, shape)
  local count = math.huge
  for resource, amount in pairs(shape) do
    local free = (host.capacity[resource] or 0) - (used[resource] or 0)
    if free < amount then return 0 end
    count = math.min(count, math.floor(free / amount))
  end
  return count
end

-- How often a host was looked at: what a pass costs.
local looks = 0

-- Try a demand on the hosts as they are, or as if they were empty. Returns the host of each instance
-- in the client's order and the amounts used then, or nil where it does not fit.
local function fit(demand, hosts, total, empty)
  local runs, at = {}, 0
  for index, run in ipairs(demand) do
    if run[1] < 1 then return nil end
    local share = 0
    for resource, amount in pairs(run[2]) do
      if (total[resource] or 0) < amount then return nil end
      share = math.max(share, amount / total[resource])
    end
    runs[index] = { index = index, first = at, count = run[1], shape = run[2], share = share }
    at = at + run[1]
  end
  table.sort(runs, function(a, b)
    if a.share ~= b.share then return a.share > b.share end
    return a.index < b.index
  end)

  if at == 0 then return nil end

  local placement, after = {}, {}
  local function used_of(host)
    return after[host.name] or (empty and {} or host.used)
  end
  for _, run in ipairs(runs) do
    local candidates = {}
    for _, host in pairs(hosts) do
      looks = looks + 1
      local used = used_of(host)
      local holds = room(host, used, run.shape)
      if holds > 0 and next(host.capacity) then
        candidates[#candidates + 1] = { host = host, holds = holds, fullness = fullness(host, used) }
      end
    end
    -- Filling a host makes it only fuller, so one sorting serves all instances of a shape.
    table.sort(candidates, function(a, b)
      if a.fullness ~= b.fullness then return a.fullness > b.fullness end
      return a.host.name < b.host.name
    end)
    local placed = 0
    for _, candidate in ipairs(candidates) do
      local take = math.min(candidate.holds, run.count - placed)
      if take == 0 then break end
      local used = {}
      for resource, amount in pairs(used_of(candidate.host)) do
        used[resource] = amount
      end
      for resource, amount in pairs(run.shape) do
        used[resource] = (used[resource] or 0) + take * amount
      end
      after[candidate.host.name] = used
      for _ = 1, take do
        placed = placed + 1
        placement[run.first + placed] = candidate.host.name
      end
    end
    if placed < run.count then return nil end
  end
  return placement, after
end
