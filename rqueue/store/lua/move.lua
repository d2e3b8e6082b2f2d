-- move: give a waiting job another place in the line.
--
-- KEYS    queue job: owner: pool:
-- NEEDS   clock order job place
-- ARGV    request_id where first second now want
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
  local index = neighbour and redis.call("ZRANK", queue, neighbour.member)
  if not index then return { "neighbour_not_queued", name, neighbour and neighbour.Status or "" } end
  neighbours[i] = { index = index, member = neighbour.member, priority = neighbour.priority, rank = neighbour.rank }
end
local index = redis.call("ZRANK", queue, job.member) or -2
local one, other = neighbours[1], neighbours[2]
if other and one.index >= other.index then return { "neighbours_reversed", first, second } end
local last = where == "back" and redis.call("ZCARD", queue) - 1
if (where == "front" and index == 0)
  or (where == "back" and index == last)
  or (where == "after" and index == one.index + 1)
  or (where == "before" and index == one.index - 1)
  or (where == "between" and one.index < index and index < other.index)
  or (where == "priority" and job.priority == tonumber(first)) then
  return { "ok", "", wanted(job, want), touched }
end

-- The job is neither of the two that it goes between, since it stands elsewhere: so its place can be found
-- while it is in line. Only where ranks have to be spread the line is seen without it.
local left, right = nil, nil
if where == "front" then
  right = at(0)
elseif where == "back" then
  left = at(last)
elseif where == "before" then
  left, right = at(one.index - 1), one
elseif where ~= "priority" then
  left, right = one, other or at(one.index + 1)
end
local function place()
  if where == "priority" then return place_at(job, tonumber(first)) end
  return place_between(job, left, right, -MAX_PRIORITY)
end
local from, now_us, woke = text(job.priority), moment(now), went(job)
bound = -1
local priority, rank, low, size = place()
if not rank or hex(rank) .. ":" .. request_id ~= job.member then
  redis.call("ZREM", queue, job.member)
  redis.call("ZREM", owner_ .. job.OwnerID, job.member)
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
event("moved", request_id, from, to)
return { "ok", woke == 1 and job.Pool or "", wanted(job, want), touched }
