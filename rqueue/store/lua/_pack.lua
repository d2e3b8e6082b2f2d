-- pack: which hosts take a job's instances.
--
-- KEYS    capacity: used:
-- NEEDS   clock
--
-- Best-fit decreasing on the dominant share: instances in falling order of the largest share that
-- one of their resources has of the whole pool, each on the fullest host that still holds it.
-- A greedy rule: it may miss a packing that a search would find, and never invents one.
--
-- Hosts are numbers, and amounts stand in a column for each resource: with a table for each host a
-- pass over 1,000 hosts took twice as long.

-- What was done so far, in about microseconds: what bounds a pass.
local work = 0

-- The hosts of a pool as they are: their names, what each has and what is free of each resource, what all
-- have together, and `full`, the largest share of its resources that is used of each.
local function hosts_of(pool)
  local names, number_of, capacity, free, total, full = {}, {}, {}, {}, {}, {}
  local held, match, tonumber = {}, string.match, tonumber
  local flat = redis.call("HGETALL", used_ .. pool)
  for i = 1, #flat, 2 do
    held[flat[i]] = tonumber(flat[i + 1])
  end
  work = work + #flat / 8
  flat = redis.call("HGETALL", capacity_ .. pool)
  for i = 1, #flat, 2 do
    local field, amount = flat[i], tonumber(flat[i + 1])
    local name, resource = match(field, "^([^/]*)/(.*)$")
    if name and amount then
      local host, column = number_of[name], capacity[resource]
      if not host then
        host = #names + 1
        names[host], number_of[name], full[host] = name, host, 0
      end
      if not column then
        column = {}
        capacity[resource], free[resource], total[resource] = column, {}, 0
      end
      local used = held[field] or 0
      if used > full[host] * amount then full[host] = used / amount end
      column[host], free[resource][host], total[resource] = amount, amount - used, total[resource] + amount
    end
  end
  work = work + #flat / 4
  return { names = names, capacity = capacity, free = free, total = total, full = full }
end

-- The same hosts as if they were empty.
local function emptied(hosts)
  local free, full = {}, {}
  for resource, column in pairs(hosts.capacity) do
    free[resource] = {}
    for host, amount in pairs(column) do
      free[resource][host], full[host] = amount, 0
    end
  end
  work = work + #hosts.names / 2
  return { names = hosts.names, capacity = hosts.capacity, free = free, total = hosts.total, full = full }
end

-- How many instances of a shape each host of some columns holds; stops when there is room for `enough`,
-- where that is given. Returns the hosts that hold any, how many each does, and all of them together.
local function room(hosts, columns, shape, enough)
  local found, holds, sum = {}, {}, 0
  local amounts, frees = {}, {}
  for resource, amount in pairs(shape) do
    amounts[#amounts + 1], frees[#frees + 1] = amount, columns[resource]
  end
  local kinds, size = #amounts, 0
  for host = 1, #hosts.names do
    local count = math.huge
    for n = 1, kinds do
      local times = (frees[n][host] or 0) / amounts[n]
      if times < count then count = times end
      if times < 1 then break end
    end
    if count >= 1 then
      size, count = size + 1, math.floor(count)
      found[size], holds[host], sum = host, count, sum + count
      if enough and sum >= enough then break end
    end
  end
  work = work + #hosts.names / 4
  return found, holds, sum
end

-- Put what is at a place of a heap of hosts where it belongs: the fullest on top, of equals by name.
local function sift(hosts, heap, at)
  local full, names, size, host = hosts.full, hosts.names, #heap, heap[at]
  local share, name = full[host], names[host]
  while 2 * at <= size do
    local next = 2 * at
    local child, of_child = heap[next], full[heap[next]]
    local other = heap[next + 1]
    if other and (full[other] > of_child or (full[other] == of_child and names[other] < names[child])) then
      next, child, of_child = next + 1, other, full[other]
    end
    if share > of_child or (share == of_child and name < names[child]) then break end
    heap[at] = child
    at = next
  end
  heap[at] = host
end

-- The hosts that hold instances of a run, as a heap, and how many each does; or nil where there is no room
-- for all.
local function candidates(hosts, run)
  local heap, holds, sum = room(hosts, hosts.free, run.shape)
  if sum < run.count then return nil end
  for at = math.floor(#heap / 2), 1, -1 do
    sift(hosts, heap, at)
  end
  work = work + #heap
  return heap, holds
end

-- The largest share of a host's resources that is used.
local function fullness(hosts, host)
  local most = 0
  for resource, column in pairs(hosts.capacity) do
    local has = column[host] or 0
    if has > 0 then most = math.max(most, (has - hosts.free[resource][host]) / has) end
  end
  return most
end

-- Put so many instances of a shape on a host, or take them off again with less than none.
local function put(hosts, host, shape, count)
  for resource, amount in pairs(shape) do
    local column = hosts.free[resource]
    column[host] = column[host] - count * amount
  end
  hosts.full[host] = fullness(hosts, host)
end

-- A demand as the runs of equal instances to place, the largest first; nil where the whole pool has less of
-- something than one of them asks for, an error where a hand edit left no demand.
local function runs_of(demand, hosts)
  local runs, at = {}, 0
  for index, written in ipairs(cjson.decode(demand)) do
    local count, shape, share = written[1], written[2], 0
    assert(count >= 1 and count % 1 == 0)
    for resource, amount in pairs(shape) do
      assert(amount > 0)
      if (hosts.total[resource] or 0) < amount then return nil end
      share = math.max(share, amount / hosts.total[resource])
    end
    runs[index] = { index = index, first = at, count = count, shape = shape, share = share }
    at = at + count
  end
  assert(at > 0)
  table.sort(runs, function(a, b)
    if a.share ~= b.share then return a.share > b.share end
    return a.index < b.index
  end)
  return runs
end

-- Put runs on the hosts. Returns the host of each instance in the client's order; or nil where they do not
-- fit, and then the hosts are as before. `ready` is what an equal demand left of its candidates.
local function fit(runs, hosts, ready)
  local placement, puts = {}, {}
  for _, run in ipairs(runs) do
    -- Filling a host makes it only fuller, so one heap serves all instances of a run, and of the next job
    -- too if it asks for the same.
    local heap, holds
    if ready then
      heap, holds = unpack(ready)
    else
      heap, holds = candidates(hosts, run)
    end
    local placed = 0
    while placed < run.count do
      local host = heap and heap[1]
      if not host then
        for _, was in ipairs(puts) do
          put(hosts, was.host, was.shape, -was.count)
        end
        return nil
      end
      local count = math.min(holds[host], run.count - placed)
      put(hosts, host, run.shape, count)
      puts[#puts + 1] = { host = host, shape = run.shape, count = count }
      for _ = 1, count do
        placed = placed + 1
        placement[run.first + placed] = hosts.names[host]
      end
      holds[host] = holds[host] - count
      if holds[host] == 0 then
        heap[1] = heap[#heap]
        heap[#heap] = nil
        if heap[1] then sift(hosts, heap, 1) end
      end
    end
    work = work + 2 * #puts
    if #runs == 1 then ready = { heap, holds } end
  end
  return placement, ready
end

-- Whether `fit` would find room for runs if the hosts were empty.
local function possible(runs, hosts)
  if #runs > 1 then return fit(runs, emptied(hosts)) ~= nil end
  local _, _, sum = room(hosts, hosts.capacity, runs[1].shape, runs[1].count)
  return sum >= runs[1].count
end
