-- pass: examine a pool. Those whose turn it is and who fit get their capacity, now and here.
--
-- KEYS    queue running settings due wake heads observed job: pool: used: capacity: pools blocked: passed: line:
-- NEEDS   clock order owners job live pack turn said
--
-- Who may not go, since the owner holds too much or no empty pool could hold the job, is skipped by all policies. The
-- first of the others in line is the head. Strict: when the head does not fit, that ends the pass. Backfill: those
-- behind it are looked at too. Fair: the owner with the smallest share has its turn first. Who goes before the head
-- passes it over, and once that began `patience` ago nobody does any more.

-- What it takes to admit one, in the unit of `work`, and to look at one of which all is known.
local ADMITTING = 60
local LOOKING = 2
-- So many bytes of the reply count as one of it: a reply is of 1 MiB or one job.
local BYTES = 350
-- So many demands that do not fit are remembered, of so many bytes.
local MOST_BLOCKED = 256
local LONGEST_BLOCKED = 1024

local function hosts_said(placement)
  local names, seen = {}, {}
  for _, host in ipairs(placement) do
    if not seen[host] then names[#names + 1], seen[host] = host, true end
  end
  return listed(names, #names)
end

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
  local set = redis.call("HMGET", settings, "paused", "call_deadline", "policy", "patience", "stale_after")
  if set[1] == "1" then return 0, turns end
  settings_of_policy = set[3] or "strict"
  if not by_owner() and (policy() == "fair" or redis.call("EXISTS", quotas_ .. pool) == 1) then
    -- A hand edit took it away.
    sort_by_owner(true)
  end
  if by_owner() and sort_apart() then
    wake_pool(pool)
    return 1, turns
  end
  local line, strict, fair = pool_ .. pool, policy() ~= "backfill" and policy() ~= "fair", policy() == "fair"
  local live = redis.call("HGET", observed, pool)
  local stale = too_old(live, set[5], now_us)
  local patience_us = (finite(set[4]) or tonumber(patience)) * 1000000
  local whose = by_owner() and by_place(pool) or in_line(pool)

  local deadline = milliseconds(now_us) + (finite(set[2]) or tonumber(call_deadline)) * 1000
  local claim = text(math.min(milliseconds(now_us) + tonumber(claim_ms), deadline))
  local hosts, whole_pool, looked_for, ready = nil, false, nil, nil
  local judged, fitted, remembered = {}, {}, 0
  for _, demand in ipairs(strict and {} or redis.call("SMEMBERS", blocked_ .. pool)) do
    judged[demand], remembered = "blocked", remembered + 1
  end

  local function look_at_all()
    if not whole_pool then
      hosts, whole_pool, ready = hosts_of(pool, live), true, nil
    end
  end

  -- "fits" with a placement, which is on the hosts then, "blocked", "never", or "no_hosts", also where nobody
  -- knows what they have. Equal demands that do not fit are judged once a pass, since what a pass admits only
  -- makes less room; those that do and follow each other share what was found out about the hosts.
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
    if not strict and judged[demand] == "blocked" and remembered < MOST_BLOCKED and #demand <= LONGEST_BLOCKED then
      remembered = remembered + 1
      redis.call("SADD", blocked_ .. pool, demand)
    end
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
    count_usage(job, 1)
    redis.call("ZREM", line, job.member)
    if by_owner() then
      redis.call("ZREM", line_of(pool, job.OwnerID), job.member)
      rank_owner(pool, job.OwnerID, false)
    end
    redis.call("ZADD", running, text(job.priority), job.member)
    redis.call("HSET", job_ .. job.id,
      "Status", "calling", "Placement", job.Placement, "Admission", admission, "Attempts", 1,
      "Deadline", text(deadline), "AdmittedAt", text(now_us), "UpdatedAt", text(now_us))
    redis.call("ZADD", due, claim, job.id)
    event("admitted", job, "queued", "calling", nil, #placement == 1 and placement[1] or hosts_said(placement))
    local _, fields, bytes = all_fields(job.id)
    work = work + ADMITTING + #placement + bytes / BYTES
    turns[#turns + 1] = { job.id, job.Callback or "", admission, claim, fields }
  end

  -- The job whose turn it is, or nil; what a hand edit left behind in a line is taken out.
  local function next_of(way)
    while true do
      local member, score = way.at()
      if not member then return nil end
      local job = load(id_of(member))
      if job and job.Status == "queued" and job.Pool == pool and job.member == member then return job, score end
      work = work + LOOKING
      redis.call("ZREM", line, member)
      if way.owner then
        redis.call("ZREM", line_of(pool, way.owner()), member)
        rank_owner(pool, way.owner(), false)
      end
      way.leave()
      if work > MAX_WORK then
        exhausted = true
        return nil
      end
    end
  end

  local function is_over(job)
    return by_owner() and over_quota(pool, job.OwnerID, job.Demand or "")
  end

  -- Whether it was first passed over so long ago that it is the next.
  local function out_of_patience(job)
    if strict then return true end
    local since = finite(redis.call("ZSCORE", passed_ .. pool, job.id))
    return since and now_us - since >= patience_us
  end

  local head, stands, examined, looks, skipped, more = nil, nil, 0, 0, 0, 0
  local shares = fair and by_share(pool)

  -- fair: the first in line among those who may go.
  local function first_in_line()
    local way = by_place(pool)
    while true do
      local job = next_of(way)
      if not job then return nil, way end
      work = work + LOOKING
      if not is_over(job) and judged[job.Demand or ""] ~= "never" then return job, way end
      way.skip()
      skipped = skipped + 1
      -- Whoever is taken out moves the others up.
      shares.again()
      if work > MAX_WORK then
        exhausted = true
        return nil, way
      end
    end
  end

  while true do
    local way = whose
    if fair then
      way = shares
      head, whose = first_in_line()
      if head and out_of_patience(head) then way = whose end
    end
    local job, score = next_of(way)
    if exhausted then more = 1 end
    if not job then break end
    local behind = head and (not fair or job.member ~= head.member)
    local place = place_text(score, job.member)
    if examined == tonumber(most) or looks > LOOKS or (examined + looks > 0 and work > MAX_WORK) then
      -- Nobody is looked at twice without anything having changed: behind the head only where somebody went.
      more = ((not behind and not by_owner()) or #turns + skipped > 0) and 1 or 0
      if not head then stands = place end
      break
    end
    work = work + LOOKING
    if strict or not judged[job.Demand or ""] then examined = examined + 1 else looks = looks + 1 end
    local verdict, placement = "over", nil
    if not is_over(job) then
      verdict, placement = judge(job.Demand or "", place)
    end
    if verdict == "fits" then
      if not strict then redis.call("ZREM", passed_ .. pool, job.id) end
      if behind then redis.call("ZADD", passed_ .. pool, "NX", text(now_us), head.id) end
      admit(job, placement)
      way.leave()
      -- One went before it, and that is all that it suffers.
      if behind and not fair and patience_us <= 0 then break end
    elseif verdict == "over" or verdict == "never" then
      if way.skip() then skipped = skipped + 1 end
    elseif verdict == "no_hosts" then
      -- In a pool without hosts nobody needs to be looked at, and nobody who comes is a reason to look.
      stands, head = NOBODY, nil
      break
    else
      head = head or job
      if way == whose and not behind and out_of_patience(job) then break end
      way.pass_over()
    end
  end
  if head then stands = place_text(head.priority, head.member) end

  -- Last, so that a pool which a hand edit made unreadable stays woken until it is mended.
  if more == 0 then redis.call("SREM", wake, pool) else wake_pool(pool) end
  if head and not stands_still(pool) then remember(pool, now_us) end
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
