-- move: give a waiting job another place in the line.
--
-- KEYS    queue job: owner: pool:
-- NEEDS   clock order owners job place
-- ARGV    request_id where first second now want actor
-- REPLY   pool to wake or "", the job's fields where they are wanted, how many members got another rank
-- ERRORS  job_not_found illegal_transition neighbour_is_self neighbour_not_queued neighbours_reversed crowded
--
-- `where` is front, back, after (first), before (first), between (first, second) or priority (first).
-- A job that already stands there stays as it is, so a repeated call changes nothing. `crowded` names a
-- priority and a range of ranks to spread first; nothing has changed then.

local job = load(request_id, STANDING)
if not job then return { "job_not_found" } end
if job.Status ~= "queued" then return { "illegal_transition", job.Status } end

-- The neighbours that were named, where they stand now; the job itself is in line.
local neighbours = {}
for i, name in ipairs(({ after = { first }, before = { first }, between = { first, second } })[where] or {}) do
  if name == request_id then return { "neighbour_is_self", name } end
  local neighbour = load(name, STANDING)
  if not neighbour or not redis.call("ZSCORE", queue, neighbour.member) then
    return { "neighbour_not_queued", name, neighbour and neighbour.Status or "" }
  end
  neighbours[i] = neighbour
end
local one, other = neighbours[1], neighbours[2]
local function stands_before(a, b) return precedes(a.priority, a.member, b.priority, b.member) end
if other and not stands_before(one, other) then return { "neighbours_reversed", first, second } end

-- The two that the job goes between, of which either may be missing. The job is neither of them, unless it
-- stands there already: so its place can be found while it is in line. Only where ranks have to be spread
-- the line is seen without it.
local left, right = one, other
if where == "front" then
  right = at(0)
elseif where == "back" then
  left = at(redis.call("ZCARD", queue) - 1)
elseif where == "after" then
  right = at(index_of(one) + 1)
elseif where == "before" then
  left, right = at(index_of(one) - 1), one
end
if (left and left.member == job.member)
  or (right and right.member == job.member)
  or (other and stands_before(one, job) and stands_before(job, other))
  or (where == "priority" and job.priority == tonumber(first)) then
  return { "ok", "", wanted(job, want), touched }
end

local function place()
  if where == "priority" then return place_at(job, tonumber(first)) end
  return place_between(job, left, right, -MAX_PRIORITY)
end
local from, now_us = text(job.priority), moment(now)
local woke = went(job, by_owner() and quit_owner(job) or nil)
bound = -1
local priority, rank, low, size = place()
if not rank or hex(rank) .. ":" .. request_id ~= job.member then
  redis.call("ZREM", queue, job.member)
  forgive(redis.pcall("ZREM", owner_ .. job.OwnerID, job.member))
  redis.call("ZREM", pool_ .. job.Pool, job.member)
end
if not rank then
  bound = 256
  left = left and at(redis.call("ZRANK", queue, left.member))
  right = right and at(redis.call("ZRANK", queue, right.member))
  priority, rank, low, size = place()
end
if not rank then
  stand(job)
  return { "crowded", text(priority), text(low), text(size) }
end
job.priority, job.rank = priority, rank
woke = math.max(stand(job), woke)
local to = text(priority)
redis.call("HSET", job_ .. request_id, "Priority", to, "UpdatedAt", text(now_us))
store_rank(job)
event("moved", job, from, to, actor)
return { "ok", woke == 1 and job.Pool or "", wanted(job, want), touched }
