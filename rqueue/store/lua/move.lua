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

local from, was, now_us = text(job.priority), job.member, moment(now)
local woke = went(job)

-- Put the job where job.priority and job.rank say.
local function settle()
  woke = math.max(stand(job), woke)
  redis.call("HSET", job_ .. request_id, "Priority", text(job.priority), "UpdatedAt", text(now_us))
  store_rank(job)
  event("moved", request_id, from, text(job.priority))
  return { "ok", woke == 1 and job.Pool or "", wanted(job, want), touched }
end

-- Between two that stand side by side there mostly is a whole number: one that nobody has, so the job need
-- not leave the line to find its place. It is itself neither of the two, since it stands elsewhere.
local left, right, priority, rank, low, size = nil, nil, nil, nil, nil, nil
if where == "front" then
  right = at(0)
elseif where == "back" then
  left = at(last)
elseif where == "before" then
  left, right = at(one.index - 1), one
elseif where ~= "priority" then
  left, right = one, other or at(one.index + 1)
end
if left and right then
  local average = average_of(left, right)
  priority = right.index == left.index + 1 and average > left.priority and average
elseif left or right then
  priority = left and left.priority + 1 or right.priority - 1
end
if priority and math.abs(priority) <= MAX_PRIORITY then
  job.priority, job.rank = priority, natural_rank(job.ID)
  if hex(job.rank) .. ":" .. request_id ~= was then leave(job) end
  return settle()
end

-- From here on the line is seen without the job.
bound = 256
leave(job)
left = left and at(redis.call("ZRANK", queue, left.member))
right = right and at(redis.call("ZRANK", queue, right.member))
if where == "priority" then
  priority, rank, low, size = place_at(job, tonumber(first))
else
  priority, rank, low, size = place_between(job, left, right, -MAX_PRIORITY)
end
if not rank then
  stand(job)
  return { "crowded", text(priority), text(low), text(size) }
end
job.priority, job.rank = priority, rank
return settle()
