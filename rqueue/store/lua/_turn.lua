-- turn: who of a pool is looked at next.
--
-- KEYS    queue apart line: owners: shares: firsts: skipped: job: pool:
-- NEEDS   clock order owners job
--
-- Each way to go through a pool is a table of functions. `at` answers the member and the score of the one whose turn it
-- is, or nil at the end, and again the same until one of the others is called: `leave` when that one has left its
-- line, `pass_over` when it cannot go now, `skip` when it may not go or never fits; that returns whether the next pass
-- begins behind it.

-- So much is done in a pass for all but the last job that it looks at.
local MAX_WORK = 3000
-- Whether that was not enough for what a hand edit left to put right.
local exhausted = false

-- In the order of the line.
local function in_line(pool)
  local line, score, member = pool_ .. pool, head_of(pool)
  local index = score and before(line, score, member) or 0
  local function go_on() index = index + 1 end
  return {
    at = function()
      local entry = redis.call("ZRANGE", line, index, index, "WITHSCORES")
      return entry[1], tonumber(entry[2])
    end,
    leave = function() end,
    pass_over = go_on,
    skip = go_on,
  }
end

-- The job of an owner's line at a place, and its index; owners that stand elsewhere than their job are put right.
local function job_at(pool, owner, place)
  local line = line_of(pool, owner)
  local entry, index = redis.call("ZRANGE", line, 0, 0, "WITHSCORES"), 0
  if #entry > 0 and place_bytes(tonumber(entry[2]), entry[1]) ~= place then
    local score, rank = place_read(place)
    index = before(line, score, rank)
    entry = redis.call("ZRANGE", line, index, index, "WITHSCORES")
  end
  local is = #entry > 0 and place_bytes(tonumber(entry[2]), entry[1])
  if is == place then return entry, index end
  if is and index >= OWNER_LOOKS then
    redis.call("SADD", skipped_ .. pool, owner)
    is = false
  end
  enter(pool, owner, is or nil)
  return nil
end

-- The owner's job after the one at an index is the one that it is looked at for from now on; behind the last one that
-- is looked at, the owner stands nowhere.
local function skip_owner(pool, owner, index)
  redis.call("SADD", skipped_ .. pool, owner)
  local next_one = {}
  if index + 1 < OWNER_LOOKS then
    next_one = redis.call("ZRANGE", line_of(pool, owner), index + 1, index + 1, "WITHSCORES")
  end
  enter(pool, owner, next_one[1] and place_bytes(tonumber(next_one[2]), next_one[1]) or nil)
end

-- The owner at an index of `owners:` or `shares:`, its job's entry and the index in its own line; or nil at the end.
local function owner_at(pool, set, index)
  while true do
    local found = redis.call("ZRANGE", set, index, index)
    if #found == 0 then return nil end
    local place, owner = string.sub(found[1], 1, PLACE_DIGITS), string.sub(found[1], PLACE_DIGITS + 2)
    if redis.call("HGET", firsts_ .. pool, owner) ~= place then
      -- Left behind by a hand edit.
      redis.call("ZREM", set, found[1])
    else
      local entry, at = job_at(pool, owner, place)
      if entry then return owner, entry, at, place end
    end
    work = work + 4
    if work > MAX_WORK then
      exhausted = true
      return nil
    end
  end
end

-- In the order of the line, without those who were skipped. Behind one that was passed over its owner's next one
-- comes in its turn.
local function by_place(pool)
  local index, later, now = 0, {}, nil
  local function put_later(owner, at)
    local entry = redis.call("ZRANGE", line_of(pool, owner), at, at, "WITHSCORES")
    if #entry == 0 then return end
    local place, low = place_bytes(tonumber(entry[2]), entry[1]), 1
    while later[low] and bytes_before(later[low].place, place) do low = low + 1 end
    table.insert(later, low, { owner = owner, entry = entry, at = at, place = place })
  end
  return {
    at = function()
      if not now then
        local owner, entry, at, place = owner_at(pool, owners_ .. pool, index)
        if later[1] and (not owner or bytes_before(later[1].place, place)) then
          now = table.remove(later, 1)
          now.again = true
        elseif owner then
          now = { owner = owner, entry = entry, at = at }
        else
          return nil
        end
      end
      return now.entry[1], tonumber(now.entry[2])
    end,
    leave = function()
      -- Those of this owner behind it are one nearer.
      if now.again then put_later(now.owner, now.at) end
      now = nil
    end,
    pass_over = function()
      if not now.again then index = index + 1 end
      put_later(now.owner, now.at + 1)
      now = nil
    end,
    skip = function()
      local lasts = not now.again
      if lasts then skip_owner(pool, now.owner, now.at) else put_later(now.owner, now.at + 1) end
      now = nil
      return lasts
    end,
    owner = function() return now.owner end,
  }
end

-- The owner with the smallest share first, and of each the first job only.
local function by_share(pool)
  local index, now = 0, nil
  return {
    at = function()
      if not now then
        local owner, entry, at = owner_at(pool, shares_ .. pool, index)
        if not owner then return nil end
        now = { owner = owner, entry = entry, at = at }
      end
      return now.entry[1], tonumber(now.entry[2])
    end,
    leave = function() now = nil end,
    pass_over = function() index, now = index + 1, nil end,
    again = function() index, now = 0, nil end,
    skip = function()
      skip_owner(pool, now.owner, now.at)
      now = nil
      return true
    end,
    owner = function() return now.owner end,
  }
end

local SORTED_AT_ONCE = 250

-- Sort some more of those who waited when `apart` came, by owner. Returns whether there was any to sort.
local function sort_apart()
  local from = redis.call("GET", apart)
  if not from or from == "1" then return false end
  local score, member = place_of(from)
  local start = score and before(queue, score, member) or 0
  local found = redis.call("ZRANGE", queue, start, start + SORTED_AT_ONCE - 1, "WITHSCORES")
  local owners_in = {}
  for i = 1, #found, 2 do
    local job = load(id_of(found[i]), STANDING)
    if job and job.Status == "queued" and job.member == found[i] then
      redis.call("ZADD", line_of(job.Pool, job.OwnerID), text(job.priority), job.member)
      owners_in[job.Pool] = owners_in[job.Pool] or {}
      owners_in[job.Pool][job.OwnerID] = true
    end
  end
  for pool, of in pairs(owners_in) do
    for owner in pairs(of) do rank_owner(pool, owner, true) end
  end
  local last = found[#found - 1]
  redis.call("SET", apart, #found < 2 * SORTED_AT_ONCE and "1" or place_text(tonumber(found[#found]), last))
  return true
end
