-- admit: one pass over a pool. Those whose turn it is and who fit get their capacity, now and here.
--
-- KEYS    queue running settings due wake heads job: pool: used: capacity:
-- NEEDS   clock order job pack
-- ARGV    pool nonce call_deadline claim_ms most now
-- REPLY   1 where there is more to do, else 0, then for each admitted job:
--         {request_id, callback, admission, claim, its fields}
-- ERRORS
--
-- Strict: the first job that an empty pool could hold and this one cannot ends the pass. `most`
-- bounds the jobs examined, MAX_WORK what is done for all but the last of them; `nonce` makes
-- the admission's name, which is unique and holds nothing that a client chose. The claim, a moment in
-- ms, is until when the caller alone may call; the first attempt counts from here, so that it can go out
-- without another script.

local MAX_WORK = 3000
-- What it takes to admit one, in the unit of `work`.
local ADMITTING = 60

if redis.call("HGET", settings, "paused") == "1" then return { "ok", 0 } end
local line = pool_ .. pool
local score_of_head, member_of_head = head_of(pool)
local index = score_of_head and before(line, score_of_head, member_of_head) or 0
redis.call("HDEL", heads, pool)

local now_us = moment(now)
local deadline = milliseconds(now_us) + setting("call_deadline", call_deadline) * 1000
local claim = text(math.min(milliseconds(now_us) + tonumber(claim_ms), deadline))
local hosts = hosts_of(pool)
local judged, fitted, ready, ready_for = {}, {}, nil, nil
local reply = { "ok", 0 }

-- "fits" with a placement, which is on the hosts then, "blocked", or "never". Equal demands that do not
-- fit are judged once a pass, since what a pass admits only makes less room; those that do and follow each
-- other share what was found out about the hosts.
local function judge(demand)
  if judged[demand] then return judged[demand] end
  local readable, runs = pcall(runs_of, demand, hosts)
  local placement, verdict = nil, "never"
  if readable then
    placement, ready = fit(runs, hosts, ready_for == demand and ready or nil)
    ready_for = demand
    if placement then
      fitted[demand] = true
      return "fits", placement
    end
    if fitted[demand] or possible(runs, hosts) then
      verdict = "blocked"
    end
  end
  judged[demand] = verdict
  return verdict
end

local function admit(job, placement)
  local admission = nonce .. "-" .. job.ID
  job.Placement = cjson.encode(placement)
  charge(job, 1)
  -- As leave_line does, but for `heads`, in which the pool has no place while it is examined.
  redis.call("ZREM", queue, job.member)
  redis.call("ZREM", line, job.member)
  redis.call("ZADD", running, text(job.priority), job.member)
  redis.call("HSET", job_ .. job.id,
    "Status", "calling", "Placement", job.Placement, "Admission", admission, "Attempts", 1,
    "Deadline", text(deadline), "AdmittedAt", text(now_us), "UpdatedAt", text(now_us))
  redis.call("ZADD", due, claim, job.id)
  event("admitted", job.id, "queued", "calling")
  work = work + ADMITTING + #placement
  reply[#reply + 1] = { job.id, job.Callback or "", admission, claim, redis.call("HGETALL", job_ .. job.id) }
end

if #hosts.names + #hosts.spent == 0 then
  -- A pool without hosts: nobody needs to be looked at, and nobody who comes is a reason to look.
  redis.call("SREM", wake, pool)
  redis.call("HSET", heads, pool, place_text(-MAX_PRIORITY - 1, ""))
  return reply
end
local stands, examined = nil, 0
while true do
  local entry = redis.call("ZRANGE", line, index, index, "WITHSCORES")
  if #entry == 0 then
    stands = nil
    break
  end
  local member, score = entry[1], tonumber(entry[2])
  stands = place_text(score, member)
  if examined == tonumber(most) or (examined > 0 and work > MAX_WORK) then
    reply[2] = 1
    break
  end
  examined = examined + 1
  local job = load(id_of(member))
  if not job or job.Status ~= "queued" or job.Pool ~= pool or job.member ~= member then
    -- Left behind by a hand edit: no waiting job stands here.
    redis.call("ZREM", line, member)
  else
    local verdict, placement = judge(job.Demand or "")
    if verdict == "fits" then
      admit(job, placement)
    elseif verdict == "never" then
      index = index + 1
    else
      break
    end
  end
end

-- Last, so that a pool which a hand edit made unreadable stays woken until it is mended.
if reply[2] == 0 then redis.call("SREM", wake, pool) end
if stands then
  redis.call("HSET", heads, pool, stands)
elseif redis.call("EXISTS", line) == 1 then
  -- Nobody here could ever go: whoever comes is the first to be examined.
  redis.call("HSET", heads, pool, place_text(MAX_PRIORITY + 1, ""))
end
return reply
