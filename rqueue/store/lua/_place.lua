-- place: finding a priority and a rank for a job that takes a new place in the line.
--
-- KEYS    queue heads wake job: owner: pool:
-- NEEDS   clock order job
--
-- Where the visible priority leaves no room, the job shares it and its rank keeps the place. When no
-- rank is left either, the ranks around are spread: list labelling as in Bender, Cole, Demaine,
-- Farach-Colton and Zito, "Two Simplified Algorithms for Maintaining Order in a List" (2002): the
-- smallest enclosing range of 2^i ranks that holds at most (2 / THRESHOLD)^i members is relabelled
-- evenly, which touches O(log n) members a move, amortised. 2 / 1.4 to the 53rd is 1.6e8: so many
-- jobs may share one priority before ranges become denser than that, and even then there is room.

local THRESHOLD = 1.4
local MIN_GAP = 16
local CHUNK = 64

local touched = 0

-- Who stands at an index of the line; nil past either end.
local function at(index)
  if index < 0 then
    return nil
  end
  local found = redis.call("ZRANGE", queue, index, index, "WITHSCORES")
  if #found == 0 then
    return nil
  end
  return { index = index, priority = tonumber(found[2]), member = found[1], rank = rank_of(found[1]) }
end

-- Who stands last; nil where nobody waits.
local function at_end()
  return at(redis.call("ZCARD", queue) - 1)
end

-- Those of one priority, from an index outwards, one after the other: a function that gives the next or nil.
local function outwards(index, step, priority)
  local buffer, used = {}, 0
  return function()
    if used == #buffer then
      if index < 0 then
        return nil
      end
      local first, last = index, index + CHUNK - 1
      if step < 0 then
        first, last = math.max(0, index - CHUNK + 1), index
      end
      local found = redis.call("ZRANGE", queue, first, last, "WITHSCORES")
      buffer, used = {}, 0
      for i = 1, #found, 2 do
        local entry = { priority = tonumber(found[i + 1]), member = found[i], rank = rank_of(found[i]) }
        if step < 0 then
          table.insert(buffer, 1, entry)
        else
          buffer[#buffer + 1] = entry
        end
      end
      index = index + step * CHUNK
    end
    used = used + 1
    local entry = buffer[used]
    if entry and entry.priority == priority then
      return entry
    end
    return nil
  end
end

-- Give a waiting job another rank, everywhere it stands.
local function relabel(entry, rank)
  touched = touched + 1
  local id, member = id_of(entry.member), hex(rank) .. string.sub(entry.member, RANK_DIGITS + 1)
  local score = text(entry.priority)
  redis.call("ZREM", queue, entry.member)
  redis.call("ZADD", queue, score, member)
  local job = load(id)
  if not job then
    return
  end
  for _, set in ipairs({ owner_ .. job.OwnerID, pool_ .. job.Pool }) do
    redis.call("ZREM", set, entry.member)
    redis.call("ZADD", set, score, member)
  end
  local head = redis.call("HGET", heads, job.Pool)
  local was = place_text(entry.priority, entry.member)
  job.rank, job.member = rank, member
  store_rank(job)
  if head == was then
    redis.call("HSET", heads, job.Pool, place_text(entry.priority, member))
  elseif head then
    local score_of_head, member_of_head = place_of(head)
    if not precedes(entry.priority, entry.member, score_of_head, member_of_head) then
      came(job)
    end
  end
end

-- Make room between the members at two neighbouring indexes, of which one or both have this
-- priority, and return the free rank.
local function spread(priority, left_index)
  local next_left, next_right = outwards(left_index, -1, priority), outwards(left_index + 1, 1, priority)
  local left, right = next_left(), next_right()
  local before_gap, after_gap = {}, {}
  local anchor = left and left.rank or right.rank
  local size, low, members, step = 1, 0, 0, 0
  for level = 1, 53 do
    size = size * 2
    low = math.floor(anchor / size) * size
    while left and left.rank >= low do
      before_gap[#before_gap + 1] = left
      left = next_left()
    end
    while right and right.rank < low + size do
      after_gap[#after_gap + 1] = right
      right = next_right()
    end
    members = #before_gap + #after_gap + 1
    step = math.floor(size / (members + 1))
    if (step >= MIN_GAP and members <= size / THRESHOLD ^ level) then
      break
    end
  end
  local count = #before_gap
  for i, entry in ipairs(before_gap) do
    relabel(entry, low + step * (count - i + 1))
  end
  for i, entry in ipairs(after_gap) do
    relabel(entry, low + step * (count + i + 1))
  end
  return low + step * (count + 1)
end

-- A rank for a job right after `left`, of the same priority; `right` is who follows, or nil.
local function rank_after(job, left, right)
  if right and right.priority == left.priority then
    if right.rank - left.rank >= 2 then
      return left.rank + math.floor((right.rank - left.rank) / 2)
    end
  else
    local natural = natural_rank(job.ID)
    if natural > left.rank and natural <= MAX_RANK then
      return natural
    elseif left.rank + RANK_STEP <= MAX_RANK then
      return left.rank + RANK_STEP
    elseif left.rank < MAX_RANK then
      return left.rank + math.ceil((MAX_RANK - left.rank) / 2)
    end
  end
  return spread(left.priority, left.index)
end

-- A rank for a job right before `right`, the first of its priority.
local function rank_before(right)
  if right.rank >= RANK_STEP then
    return right.rank - RANK_STEP
  elseif right.rank >= 1 then
    return math.floor(right.rank / 2)
  end
  return spread(right.priority, right.index - 1)
end

-- The four places there are. Each returns a priority and a rank; `last`, `first`, `left` and `right`
-- are entries as `at` gives them, never the job itself.

local function place_last(job, last, least)
  if not last then
    return least, natural_rank(job.ID)
  elseif last.priority < MAX_PRIORITY then
    return math.max(least, last.priority + 1), natural_rank(job.ID)
  end
  return MAX_PRIORITY, rank_after(job, last, nil)
end

local function place_first(job, first)
  if first.priority > -MAX_PRIORITY then
    return first.priority - 1, natural_rank(job.ID)
  end
  return first.priority, rank_before(first)
end

-- Behind those that already have this priority.
local function place_at(job, priority)
  local score = text(priority)
  local found = redis.call("ZREVRANGEBYSCORE", queue, score, score, "LIMIT", 0, 1)
  if #found == 0 then
    return priority, natural_rank(job.ID)
  end
  local last = at(redis.call("ZRANK", queue, found[1]))
  return priority, rank_after(job, last, nil)
end

-- Between two jobs; `follower` is who follows the left one now.
local function place_between(job, left, right, follower)
  -- The integer average without a sum, which could be beyond 2^53.
  local average = math.floor(left.priority / 2) + math.floor(right.priority / 2)
  if left.priority % 2 + right.priority % 2 == 2 then
    average = average + 1
  end
  if average > left.priority then
    return place_at(job, average)
  end
  return average, rank_after(job, left, follower)
end
