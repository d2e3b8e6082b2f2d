-- place: finding a priority and a rank for a job that takes a new place in the line.
--
-- KEYS    queue heads wake job: owner: pool:
-- NEEDS   clock order owners job
--
-- Where the visible priority leaves no room, the job shares it and its rank keeps the place. When no
-- rank is left either, the ranks around are spread: list labelling as in Bender, Cole, Demaine,
-- Farach-Colton and Zito, "Two Simplified Algorithms for Maintaining Order in a List" (2002): the
-- smallest enclosing range of 2^i ranks that holds at most (2 / THRESHOLD)^i members is relabelled
-- evenly, which touches O(log n) members a move, amortised. 2 / 1.4 to the 53rd is 1.6e8: so many
-- jobs may share one priority before ranges become denser than that, and even then there is room.
--
-- An entry is a member of the line, with its priority and rank, as `at` gives it; its index is looked up only
-- where it is asked for, since that is a tenth of a move. All of this sees the line without the job itself.

local THRESHOLD = 1.4

local touched, bound = 0, math.huge

-- Who stands at an index of the line; nil past either end.
local function at(index)
  if index < 0 then return nil end
  local found = redis.call("ZRANGE", queue, index, index, "WITHSCORES")
  if #found == 0 then return nil end
  local priority = tonumber(found[2])
  -- By a hand edit: a neighbour must not make another's priority endless or a fraction.
  if priority % 1 ~= 0 then priority = math.floor(math.max(-MAX_PRIORITY, math.min(MAX_PRIORITY, priority))) end
  return { index = index, priority = priority, member = found[1], rank = rank_of(found[1]) }
end

-- The index of an entry.
local function index_of(entry)
  entry.index = entry.index or redis.call("ZRANK", queue, entry.member)
  return entry.index
end

-- Give a waiting job another rank, everywhere it stands.
local function relabel(entry, rank)
  touched = touched + 1
  local member, score = hex(rank) .. string.sub(entry.member, RANK_DIGITS + 1), text(entry.priority)
  local job = load(id_of(entry.member), STANDING)
  local sets = job and { queue, owner_ .. job.OwnerID, pool_ .. job.Pool } or { queue }
  if job and by_owner() then sets[4] = line_of(job.Pool, job.OwnerID) end
  for _, set in ipairs(sets) do
    forgive(redis.pcall("ZREM", set, entry.member))
    forgive(redis.pcall("ZADD", set, score, member))
  end
  if sets[4] then rank_owner(job.Pool, job.OwnerID, false) end
  if job then
    job.rank = rank
    store_rank(job)
    if head_of(job.Pool) == entry.priority then
      -- The place at which its pool stands still may have another name now: examine it afresh.
      redis.call("HDEL", heads, job.Pool)
      wake_pool(job.Pool)
    end
  end
end

-- How many members of one priority a range of ranks holds, and the index of the first.
local function members_in(priority, low, size)
  local first = before(queue, priority, hex(low))
  return before(queue, priority, hex(low + size)) - first, first
end

-- Make room between two neighbouring indexes, of which one or both have this priority: a free rank. Or
-- nil and the range to spread, where that would touch more than `bound` members: then it is for
-- spread.lua, step by step, so that no script takes long. Below 0 nothing may be touched: nil at once.
local function spread(priority, left_index)
  if bound < 0 then return nil end
  local left, right = at(left_index), at(left_index + 1)
  local anchor = left and left.priority == priority and left.rank or right.rank
  local size, low, step, members, first = 1, 0, 0, 0, 0
  for level = 1, 53 do
    size = size * 2
    low = math.floor(anchor / size) * size
    members, first = members_in(priority, low, size)
    step = math.floor(size / (members + 2))
    if step >= 2 and members + 1 <= size / THRESHOLD ^ level then break end
  end
  if members > bound then return nil, low, size end
  local entries, gap = {}, left_index + 1 - first
  for i = 1, members do entries[i] = at(first + i - 1) end
  for i, entry in ipairs(entries) do relabel(entry, low + step * (i <= gap and i or i + 1)) end
  return low + step * (gap + 1)
end

-- A rank right after an entry of the same priority.
local function rank_after(job, left)
  local right = at(index_of(left) + 1)
  local natural, room = natural_rank(job.ID), MAX_RANK + 1 - left.rank
  if right and right.priority == left.priority then
    room = right.rank - left.rank
  elseif natural > left.rank and natural <= MAX_RANK then
    return natural
  elseif room > RANK_STEP then
    return left.rank + RANK_STEP
  end
  if room >= 2 then return left.rank + math.floor(room / 2) end
  return spread(left.priority, index_of(left))
end

-- A rank right before an entry, the first of its priority.
local function rank_before(right)
  if right.rank >= RANK_STEP then return right.rank - RANK_STEP end
  if right.rank >= 1 then return math.floor(right.rank / 2) end
  return spread(right.priority, index_of(right) - 1)
end

-- Behind those that already have this priority: a priority and a rank.
local function place_at(job, priority)
  local left = at(redis.call("ZCOUNT", queue, "-inf", text(priority)) - 1)
  if left and left.priority == priority then return priority, rank_after(job, left) end
  return priority, natural_rank(job.ID)
end

-- Between two entries, of which either may be missing: a priority and a rank. `least` is the smallest
-- priority that a last place may have.
local function place_between(job, left, right, least)
  if not left and not right then
    return least, natural_rank(job.ID)
  elseif not right then
    return place_at(job, math.min(math.max(least, left.priority + 1), MAX_PRIORITY))
  elseif not left then
    if right.priority > -MAX_PRIORITY then return right.priority - 1, natural_rank(job.ID) end
    return right.priority, rank_before(right)
  end
  -- The integer average without a sum, which could be beyond 2^53.
  local average = math.floor(left.priority / 2) + math.floor(right.priority / 2)
  if left.priority % 2 + right.priority % 2 == 2 then average = average + 1 end
  if average > left.priority then return place_at(job, average) end
  return average, rank_after(job, left)
end
