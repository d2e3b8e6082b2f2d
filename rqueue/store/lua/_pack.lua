-- pack: which hosts take a job's instances.
--
-- KEYS    capacity: used: seen: limits: pools
-- NEEDS   clock
--
-- Best-fit decreasing on the dominant share: instances in falling order of the largest share that
-- one of their resources has of the whole pool, each on the fullest host that still holds it.
-- A greedy rule: it may miss a packing that a search would find, and never invents one.
--
-- Hosts are numbers, and amounts stand in a column for each resource: with a table for each host a
-- pass over 1,000 hosts took twice as long. What is used up is not even read, so that a pass over a
-- pool that is full, as most are when there is a line, costs a third of one over a pool that is empty.

-- What was done so far, in about microseconds: what bounds a pass.
local work = 0

-- Read fields and amounts that hosts have into columns, of each resource one of what hosts have and one of
-- what is free: `held` is what is taken of them, or all is where it is nil. What is used up goes to
-- `spent`, as it came, until `complete`.
local function read(hosts, fields, held)
  local names, number_of, capacity, free, full = hosts.names, hosts.number_of, hosts.capacity, hosts.free, hosts.full
  local spent, match, tonumber = hosts.spent, string.match, tonumber
  for i = 1, #fields, 2 do
    local field, amount = fields[i], fields[i + 1]
    local used = not held and amount or held[field]
    if held and used == amount then
      spent[#spent + 1], spent[#spent + 2] = field, amount
    else
      local name, resource = match(field, "^([^/]*)/(.*)$")
      amount, used = tonumber(amount), tonumber(used) or 0
      -- Not so for nan and inf, as `finite` has it; a call of that for each field would be felt.
      if used - used ~= 0 then used = 0 end
      if name and amount and amount - amount == 0 then
        local host, column = number_of[name], free[resource]
        if not host then
          host = #names + 1
          names[host], number_of[name], full[host] = name, host, 0
        end
        if not column then
          column = {}
          free[resource], capacity[resource] = column, {}
        end
        column[host], capacity[resource][host] = amount - used, amount
        if used > full[host] * amount then full[host] = used / amount end
      end
    end
  end
  work = work + #fields / 4
end

local function no_hosts()
  return { names = {}, number_of = {}, capacity = {}, free = {}, full = {}, spent = {}, limits = {} }
end

-- Of hosts that have such limits, the most that one instance takes of a resource: resource → host's name → amount.
local function limit(hosts, field, amount)
  local name, resource = string.match(field, "^([^/]*)/(.*)$")
  local most = finite(amount)
  if not name or not most then return end
  if not hosts.limits[resource] then hosts.limits[resource] = {} end
  hosts.limits[resource][name] = most
end

-- Add what a source sees of fields to what is promised of them.
local function add_seen(held, seen)
  for i = 1, #seen, 2 do
    local field, amount = seen[i], seen[i + 1]
    local used = held[field]
    held[field] = used and text((finite(used) or 0) + (finite(amount) or 0)) or amount
  end
  work = work + #seen / 8
end

-- The hosts of a pool as they are: their names, the columns, and of each host the largest share of its
-- resources that is used; of a `live` pool also by what its source sees.
local function hosts_of(pool, live)
  local hosts, held, flat = no_hosts(), {}, redis.call("HGETALL", used_ .. pool)
  for i = 1, #flat, 2 do
    held[flat[i]] = flat[i + 1]
  end
  work = work + #flat / 8
  if live then
    add_seen(held, redis.call("HGETALL", seen_ .. pool))
    local limits = redis.call("HGETALL", limits_ .. pool)
    for i = 1, #limits, 2 do
      limit(hosts, limits[i], limits[i + 1])
    end
    work = work + #limits / 8
  end
  read(hosts, redis.call("HGETALL", capacity_ .. pool), held)
  return hosts
end

-- One host of a pool, and of its resources only those of a shape.
local function host_of(pool, name, shape, live)
  local fields = {}
  for resource in pairs(shape) do
    fields[#fields + 1] = name .. "/" .. resource
  end
  local hosts, held, has = no_hosts(), {}, {}
  if #fields == 0 then return hosts end
  local amounts = redis.call("HMGET", capacity_ .. pool, unpack(fields))
  for i, used in ipairs(redis.call("HMGET", used_ .. pool, unpack(fields))) do
    held[fields[i]] = used or nil
    has[i * 2 - 1], has[i * 2] = fields[i], amounts[i] or ""
  end
  if live then
    local seen = {}
    for i, amount in ipairs(redis.call("HMGET", seen_ .. pool, unpack(fields))) do
      seen[i * 2 - 1], seen[i * 2] = fields[i], amount or "0"
    end
    add_seen(held, seen)
    for i, most in ipairs(redis.call("HMGET", limits_ .. pool, unpack(fields))) do
      limit(hosts, fields[i], most)
    end
  end
  read(hosts, has, held)
  return hosts
end

-- Read what is used up too.
local function complete(hosts)
  local spent = hosts.spent
  hosts.spent = {}
  read(hosts, spent, nil)
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
  return {
    names = hosts.names, capacity = hosts.capacity, free = free, full = full, spent = {}, limits = hosts.limits,
  }
end

-- Whether an instance asks for more than it may take of a host: the limits by host → what it asks for.
local function beyond(limits, host)
  for most, amount in pairs(limits) do
    if most[host] and amount > most[host] then return true end
  end
  return false
end

-- How many instances of a shape each host has room for in some columns; stops when there is room for
-- `enough`, where that is given. Returns the hosts that hold any, how many each does, and all together.
local function room(hosts, columns, shape, enough)
  local found, holds, sum = {}, {}, 0
  local amounts, frees, limits = {}, {}, nil
  for resource, amount in pairs(shape) do
    if not columns[resource] then return found, holds, 0 end
    amounts[#amounts + 1], frees[#frees + 1] = amount, columns[resource]
    if hosts.limits[resource] then
      limits = limits or {}
      limits[hosts.limits[resource]] = amount
    end
  end
  local kinds, size = #amounts, 0
  for host = 1, #hosts.names do
    local count = math.huge
    for n = 1, kinds do
      local times = (frees[n][host] or 0) / amounts[n]
      if times < count then count = times end
      if times < 1 then break end
    end
    if count >= 1 and not (limits and beyond(limits, hosts.names[host])) then
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
  -- Who asks for nothing fits on what is used up, too.
  if next(run.shape) == nil then complete(hosts) end
  local heap, holds, sum = room(hosts, hosts.free, run.shape)
  if sum < run.count then return nil end
  -- Which of several is the fullest depends on what is used up of them, also of what is not asked for.
  if #heap > 1 then complete(hosts) end
  for at = math.floor(#heap / 2), 1, -1 do
    sift(hosts, heap, at)
  end
  work = work + #heap
  return heap, holds
end

-- Put so many instances of a shape on a host. Returns how full it was.
local function put(hosts, host, shape, count)
  local was = hosts.full[host]
  local full = was
  for resource, amount in pairs(shape) do
    local column, has = hosts.free[resource], hosts.capacity[resource][host]
    column[host] = column[host] - count * amount
    full = math.max(full, (has - column[host]) / has)
  end
  hosts.full[host] = full
  return was
end

-- Take off again what was put.
local function take_back(hosts, puts)
  for i = #puts, 1, -1 do
    local host, shape, count, full = unpack(puts[i])
    put(hosts, host, shape, -count)
    hosts.full[host] = full
  end
end

-- A demand as the runs of equal instances to place, the largest first. An error where a hand edit left none.
local function runs_of(demand, pool)
  local runs, at = {}, 0
  for index, written in ipairs(cjson.decode(demand)) do
    local count, shape = written[1], written[2]
    assert(count >= 1 and count % 1 == 0)
    for _, amount in pairs(shape) do
      assert(amount > 0)
    end
    runs[index] = { index = index, first = at, count = count, shape = shape, share = 0 }
    at = at + count
  end
  assert(at > 0)
  if #runs == 1 then return runs end
  local readable, bounds = pcall(function() return cjson.decode(redis.call("HGET", pools, pool)) end)
  for _, run in ipairs(runs) do
    for resource, amount in pairs(run.shape) do
      local known = readable and type(bounds) == "table" and bounds[resource]
      local total = type(known) == "table" and tonumber(known[2]) or 0
      run.share = math.max(run.share, amount / total)
    end
  end
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
  if #runs > 1 then complete(hosts) end
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
        take_back(hosts, puts)
        return nil
      end
      local count = math.min(holds[host], run.count - placed)
      puts[#puts + 1] = { host, run.shape, count, put(hosts, host, run.shape, count) }
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
  complete(hosts)
  if #runs > 1 then return fit(runs, emptied(hosts)) ~= nil end
  local _, _, sum = room(hosts, hosts.capacity, runs[1].shape, runs[1].count)
  return sum >= runs[1].count
end
