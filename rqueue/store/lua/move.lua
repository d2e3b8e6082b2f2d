-- move: give a waiting job another place in the line.
--
-- KEYS    queue settings job: owner: pool:
-- NEEDS   clock order job place
-- ARGV    request_id where first second now
-- REPLY   pool to wake or "", the job's fields, how many members got another rank
-- ERRORS  job_not_found illegal_transition neighbour_is_self neighbour_not_queued neighbours_reversed
--
-- `where` is front, back, after (first), before (first), between (first, second) or priority (first).
-- A job that already stands there stays as it is, so a repeated call changes nothing.

local job = load(request_id)
if not job then
  return { "job_not_found" }
end
if job.Status ~= "queued" then
  return { "illegal_transition", job.Status }
end

local function done(pool)
  return { "ok", pool, redis.call("HGETALL", job_ .. request_id), touched }
end

-- The neighbours that were named, checked while the job still stands where it was.
local names = { after = { first }, before = { first }, between = { first, second } }
local neighbours = {}
for i, name in ipairs(names[where] or {}) do
  if name == request_id then
    return { "neighbour_is_self", name }
  end
  local neighbour = load(name)
  if not neighbour or neighbour.Status ~= "queued" then
    return { "neighbour_not_queued", name, neighbour and neighbour.Status or "" }
  end
  neighbour.index = redis.call("ZRANK", queue, neighbour.member)
  if not neighbour.index then
    return { "neighbour_not_queued", name, "" }
  end
  neighbours[i] = neighbour
end
local index = redis.call("ZRANK", queue, job.member) or -2
local left, right = neighbours[1], neighbours[2]
if where == "between" then
  if left.index >= right.index then
    return { "neighbours_reversed", first, second }
  end
end
if (where == "front" and index == 0)
  or (where == "back" and index == redis.call("ZCARD", queue) - 1)
  or (where == "after" and index == left.index + 1)
  or (where == "before" and index == left.index - 1)
  or (where == "between" and left.index < index and index < right.index)
  or (where == "priority" and job.priority == tonumber(first)) then
  return done("")
end

-- From here on the line is seen without the job.
local from = text(job.priority)
local woke = leave_line(job)
redis.call("ZREM", owner_ .. job.OwnerID, job.member)
local function seen(neighbour)
  return at(redis.call("ZRANK", queue, neighbour.member))
end

if where == "before" then
  right = seen(left)
  left = at(right.index - 1)
elseif where == "after" then
  left = seen(left)
  right = at(left.index + 1)
elseif where == "between" then
  left, right = seen(left), seen(right)
elseif where == "front" then
  right = at(0)
elseif where == "back" then
  left = at_end()
end
if where == "priority" then
  job.priority, job.rank = place_at(job, tonumber(first))
elseif left and right then
  job.priority, job.rank = place_between(job, left, right, at(left.index + 1))
elseif right then
  job.priority, job.rank = place_first(job, right)
else
  job.priority, job.rank = place_last(job, left, moment(now))
end
if stand(job) == 1 then
  woke = 1
end
redis.call("HSET", job_ .. request_id, "Priority", text(job.priority), "UpdatedAt", text(moment(now)))
store_rank(job)
event("moved", request_id, from, text(job.priority))
return done(woke == 1 and job.Pool or "")
