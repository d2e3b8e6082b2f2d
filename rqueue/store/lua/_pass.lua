-- pass: examine a pool. Those whose turn it is and who fit get their capacity, now and here.
--
-- KEYS    queue running settings due wake heads observed job: pool: used: capacity: pools
-- NEEDS   clock order job live pack
--
-- Strict: the first job that an empty pool could hold and this one cannot ends the pass.

local MAX_WORK = 3000
-- What it takes to admit one, in the unit of `work`.
local ADMITTING = 60
-- So many bytes of the reply count as one of it: a reply is of 1 MiB or one job.
local BYTES = 350

-- `most` bounds the jobs examined, MAX_WORK what is done for all but the last of them; `nonce` makes the
-- admission's name, which is unique and holds nothing that a client chose. The claim, a moment in ms, is
-- until when the caller alone may call; the first attempt counts from here, so that it can go out without
-- another script.
--
-- `freed` is given where all that has changed since the pool stood still, at the place `stood`, is that
-- this one host got more room: then a job of one instance that stands there still fits nowhere else, and
-- no other host need be looked at.
--
-- Returns 1 where there is more to do, else 0, and for each admitted job {request_id, callback, admission,
-- claim, its fields}.
local function pass(pool, now_us, nonce, call_deadline, claim_ms, most, stood, freed)
  local turns = {}
  local set = redis.call("HMGET", settings, "paused", "call_deadline", "stale_after")
  if set[1] == "1" then return 0, turns end
  local live = redis.call("HGET", observed, pool)
  local stale = too_old(live, set[3], now_us)
  local line = pool_ .. pool
  local score_of_head, member_of_head = head_of(pool)
  local index = score_of_head and before(line, score_of_head, member_of_head) or 0

  local deadline = milliseconds(now_us) + (finite(set[2]) or tonumber(call_deadline)) * 1000
  local claim = text(math.min(milliseconds(now_us) + tonumber(claim_ms), deadline))
  local hosts, whole_pool, looked_for, ready = nil, false, nil, nil
  local judged, fitted = {}, {}

  local function look_at_all()
    if not whole_pool then
      hosts, whole_pool, ready = hosts_of(pool, live), true, nil
    end
  end

  -- "fits" with a placement, which is on the hosts then, "blocked", "never", or "no_hosts", also
  -- where nobody knows what they have. Equal demands
  -- that do not fit are judged once a pass, since what a pass admits only makes less room; those that do
  -- and follow each other share what was found out about the hosts.
  local function judge(demand, place)
    if stale then return "no_hosts" end
    if judged[demand] then return judged[demand] end
    local readable, runs = pcall(runs_of, demand, pool)
    if readable and not hosts and freed and place == stood and #runs == 1 and runs[1].count == 1 then
      hosts = host_of(pool, freed, runs[1].shape, live)
    elseif not hosts or demand ~= looked_for then
      look_at_all()
      ready = nil
    end
    looked_for = demand
    local placement
    if readable then
      placement, ready = fit(runs, hosts, ready)
      if not (placement or fitted[demand] or whole_pool) then
        look_at_all()
        placement, ready = fit(runs, hosts, nil)
      end
    end
    if placement then
      fitted[demand] = true
      return "fits", placement
    end
    if whole_pool and #hosts.names + #hosts.spent == 0 then return "no_hosts" end
    judged[demand] = readable and (fitted[demand] or possible(runs, hosts)) and "blocked" or "never"
    return judged[demand]
  end

  local function admit(job, placement)
    local admission = nonce .. "-" .. job.ID
    job.Placement = cjson.encode(placement)
    -- As leave_line does, but for `heads`, which is written when the pass ends. Before all else: a Redis that
    -- is full refuses a first write that needs memory, and takes everything after one that does not.
    redis.call("ZREM", queue, job.member)
    -- While it stands in its pool, a pass that is refused what comes next finds it again.
    charge(job, 1)
    redis.call("ZREM", line, job.member)
    redis.call("ZADD", running, text(job.priority), job.member)
    redis.call("HSET", job_ .. job.id,
      "Status", "calling", "Placement", job.Placement, "Admission", admission, "Attempts", 1,
      "Deadline", text(deadline), "AdmittedAt", text(now_us), "UpdatedAt", text(now_us))
    redis.call("ZADD", due, claim, job.id)
    event("admitted", job.id, "queued", "calling")
    local _, fields, bytes = all_fields(job.id)
    work = work + ADMITTING + #placement + bytes / BYTES
    turns[#turns + 1] = { job.id, job.Callback or "", admission, claim, fields }
  end

  local stands, examined, more = nil, 0, 0
  while true do
    local entry = redis.call("ZRANGE", line, index, index, "WITHSCORES")
    if #entry == 0 then
      stands = nil
      break
    end
    local member, score = entry[1], tonumber(entry[2])
    stands = place_text(score, member)
    if examined == tonumber(most) or (examined > 0 and work > MAX_WORK) then
      more = 1
      break
    end
    examined = examined + 1
    local job = load(id_of(member))
    if not job or job.Status ~= "queued" or job.Pool ~= pool or job.member ~= member then
      -- Left behind by a hand edit: no waiting job stands here.
      redis.call("ZREM", line, member)
    else
      local verdict, placement = judge(job.Demand or "", stands)
      if verdict == "fits" then
        admit(job, placement)
      elseif verdict == "never" then
        index = index + 1
      else
        -- In a pool without hosts nobody needs to be looked at, and nobody who comes is a reason to look.
        if verdict == "no_hosts" then
          stands = NOBODY
        end
        break
      end
    end
  end

  -- Last, so that a pool which a hand edit made unreadable stays woken until it is mended.
  if more == 0 then redis.call("SREM", wake, pool) else wake_pool(pool) end
  if stands then
    redis.call("HSET", heads, pool, stands)
  elseif redis.call("EXISTS", line) == 1 then
    -- Nobody here could ever go: whoever comes is the first to be examined.
    redis.call("HSET", heads, pool, place_text(MAX_PRIORITY + 1, ""))
  else
    redis.call("HDEL", heads, pool)
  end
  return more, turns
end
