-- examine: look at jobs by their hashes: is each whole, and does it stand where its hash says, and there only
-- as it says? What is not so is told, and with `repair` mended: the hash is the truth.
--
-- KEYS    queue running ended due callbacks settings heads wake events job: owner: pool: apart line: held: damaged:
-- NEEDS   clock order owners job aside
-- ARGV    repair retention call_deadline demand now ids...
-- REPLY   the largest ID among them or "", then of each fault {code, key, request_id, more about it}
-- ERRORS
--
-- Each job is looked at in one go, so that what the service does meanwhile is no fault. A demand that cannot
-- be read is told as `demand`, with the Data from which it can be made again, and mended by another call with
-- that one job and its `demand`; "-" for none.

local MAX_MOMENT = 253402300799999999
-- Longer than a lease or a retention may be, in ms.
local TOO_LONG = 367 * 24 * 3600 * 1000
local now_us = moment(now)
local now_ms = milliseconds(now_us)
local largest = 0

-- Whether it is UTF-8, as all names are that the service has written.
local function is_text(written)
  for _, sequence in ipairs({ "[\240-\244]" .. string.rep("[\128-\191]", 3), "[\224-\239][\128-\191][\128-\191]",
    "[\194-\223][\128-\191]" }) do
    written = string.gsub(written, sequence, ".")
  end
  return not string.find(written, "[\128-\255]")
end

local known = {}

local function instances_of(written)
  -- Many jobs ask for the same.
  if known[written or ""] then return known[written or ""] > 0 and known[written or ""] or nil end
  local readable, count = pcall(function()
    local runs, all = cjson.decode(written), 0
    for _, run in ipairs(runs) do
      all = all + counted(text(run[1]), 1, 1000)
      for _, amount in pairs(run[2]) do
        assert(amount > 0 and amount <= MAX_PRIORITY and amount % 1 == 0)
      end
    end
    assert(#runs > 0)
    return all
  end)
  known[written or ""] = readable and count or 0
  return readable and count or nil
end

local function placed(written, count)
  local readable, hosts = pcall(cjson.decode, written)
  if not readable or type(hosts) ~= "table" or #hosts ~= count then return false end
  for _, host in ipairs(hosts) do
    if type(host) ~= "string" then return false end
  end
  return true
end

local function look(id)
  local name = "job:" .. id
  local job = all_fields(id)
  if next(job) == nil then return is_kind(name, "hash") end
  stays(name)

  -- A field gets the value that it should have, or is taken away; what it had is kept aside.
  local function mend(field, value)
    found("field", name, id, field .. (job[field] and " is " .. string.sub(job[field], 1, 80) or " is missing"))
    if mending then
      if job[field] then field_aside(name, field, job[field]) end
      if value then redis.call("HSET", job_ .. id, field, value) end
    end
    job[field] = value
  end

  -- The places that a job has, whatever of it can be read.
  local function leave_all()
    local member = job.ID and tonumber(job.ID) and whole(id, job) and job.member
    for _, set in ipairs(member and { queue, running, owner_ .. job.OwnerID, pool_ .. job.Pool, line_of(job.Pool, job.OwnerID) } or {}) do
      forgive(redis.pcall("ZREM", set, member))
    end
    forgive(redis.pcall("ZREM", ended, id))
    forgive(redis.pcall("ZREM", due, id))
    if job.Callback and forgive(redis.pcall("HGET", callbacks, job.Callback)) == id then
      redis.call("HDEL", callbacks, job.Callback)
    end
    if job.Pool then examine_afresh(job.Pool) end
  end

  local function no_job(field)
    found("no_job", name, id, field .. (job[field] and " is " .. string.sub(job[field], 1, 80) or " is missing"))
    if mending then
      leave_all()
      key_aside(name)
    end
  end

  local number = counted(job.ID, 1, MAX_ID)
  if not number then return no_job("ID") end
  largest = math.max(largest, number)
  local rank = natural_rank(number)
  if job.Rank then
    rank = ranked(job.Rank) or rank
    if not ranked(job.Rank) then mend("Rank", nil) end
  end
  local member = hex(rank) .. ":" .. id
  local function score(set)
    local is = forgive(redis.pcall("ZSCORE", set, member))
    return type(is) == "string" and is or nil
  end

  for _, field in ipairs({ "OwnerID", "Pool", "Callback", "Data" }) do
    if (job[field] or "") == "" then return no_job(field) end
    if (field == "OwnerID" or field == "Pool") and not is_text(job[field]) then return no_job(field) end
  end
  if not (LIVE[job.Status] or DONE[job.Status]) then
    if score(queue) then
      mend("Status", "queued")
    elseif score(running) then
      -- Called once more, by the name of its admission, which is better than to hold what nobody may use.
      mend("Status", "calling")
    else
      return no_job("Status")
    end
  end
  local line = LIVE[job.Status] and KEYS[1] .. LIVE[job.Status]
  if not counted(job.Priority, -MAX_PRIORITY, MAX_PRIORITY) then
    local stood = line and tonumber(score(line) or score(owner_ .. job.OwnerID) or "")
    if not stood or stood % 1 ~= 0 or math.abs(stood) > MAX_PRIORITY then return no_job("Priority") end
    mend("Priority", text(stood))
  end
  local created = counted(job.CreatedAt, 0, MAX_MOMENT) and job.CreatedAt
  if not counted(job.UpdatedAt, 0, MAX_MOMENT) then mend("UpdatedAt", created or text(now_us)) end
  if not created then mend("CreatedAt", job.UpdatedAt) end

  local count = instances_of(job.Demand)
  if not count and demand ~= "" and #ARGV == ids + 1 then
    if demand == "-" then return no_job("Demand") end
    mend("Demand", demand)
    count = instances_of(demand)
  end
  if not count then return found("demand", name, id, job.Data) end

  local calling, admitted = job.Status == "calling", line == running
  for _, field in ipairs({ "AdmittedAt", "Attempts" }) do
    local most = field == "Attempts" and MAX_PRIORITY or MAX_MOMENT
    if (job[field] or admitted) and not counted(job[field], 0, most) then
      mend(field, admitted and (field == "Attempts" and "1" or job.UpdatedAt) or nil)
    end
  end
  if not admitted then
    if job.Placement then mend("Placement", nil) end
    if job.Deadline then mend("Deadline", nil) end
  end
  -- Without it the job is charged, which `used` shows then: too much rather than too little.
  if job.Observed and not (job.Status == "running" and counted(job.Observed, 0, MAX_MOMENT)) then mend("Observed", nil) end
  if line and job.DeletedAt then mend("DeletedAt", nil) end
  if admitted and not placed(job.Placement, count) then
    -- Which hosts it holds nobody can say any more: it ends, visibly, and whoever wants it may put it in line again.
    found("placement", name, id, job.Placement or "missing")
    if mending then
      if job.Placement then field_aside(name, "Placement", job.Placement) end
      redis.call("HDEL", job_ .. id, "Placement", "Deadline")
      redis.call("HSET", job_ .. id, "LastError", "its Placement was damaged; rqueue check ended it")
      leave_all()
      redis.call("HSET", callbacks, job.Callback, id)
      job.id, job.member = id, member
      finish(job, calling and "failed" or "expired", now_us, setting("retention", retention), "rqueue check",
        "its Placement was damaged")
    end
    return
  end
  if calling and (job.Admission or "") == "" then mend("Admission", text(now_us) .. "-" .. job.ID) end
  if calling and not finite(job.Deadline) then
    mend("Deadline", text(now_ms + setting("call_deadline", call_deadline) * 1000))
  end
  if DONE[job.Status] and not counted(job.DeletedAt, 0, MAX_MOMENT) then
    local when = forgive(redis.pcall("ZSCORE", ended, id))
    when = type(when) == "string" and finite(when)
    mend("DeletedAt", when and when >= 0 and when <= MAX_MOMENT and text(when) or job.UpdatedAt)
  end

  -- Where it has to stand, and with which score.
  local function stands(set, who, wanted)
    local is = forgive(redis.pcall("ZSCORE", KEYS[1] .. set, who))
    if type(is) == "table" then
      is_kind(set, "zset")
      if not mending then return end
      is = false
    end
    if is and tonumber(is) == tonumber(wanted) then return end
    found(is and "score" or "missing", set, id, is and is .. ", not " .. wanted or who)
    if not mending then return end
    redis.call("ZADD", KEYS[1] .. set, wanted, who)
    if line == queue then examine_afresh(job.Pool) end
  end
  if line then
    stands(LIVE[job.Status], member, job.Priority)
    stands("owner:" .. job.OwnerID, member, job.Priority)
    if line == queue then
      stands("pool:" .. job.Pool, member, job.Priority)
      if forgive(redis.pcall("GET", apart)) == "1" then
        local own = line_of(job.Pool, job.OwnerID)
        local stood = forgive(redis.pcall("ZSCORE", own, member))
        stands(string.sub(own, #KEYS[1] + 1), member, job.Priority)
        if mending and type(stood) ~= "string" then stand_owner(job.Pool, job.OwnerID) end
        local there = forgive(redis.pcall("HEXISTS", firsts_ .. job.Pool, job.OwnerID))
        local skips = forgive(redis.pcall("SISMEMBER", skipped_ .. job.Pool, job.OwnerID))
        if there == 0 and skips == 0 then
          found("missing", "owners:" .. job.Pool, id, job.OwnerID)
          if mending then
            stand_owner(job.Pool, job.OwnerID)
            examine_afresh(job.Pool)
          end
        end
      end
    end
    if job.Observed then stands("held:" .. job.Pool, id, "inf") end
  else
    stands("ended", id, job.DeletedAt)
  end

  local at = line ~= queue and forgive(redis.pcall("ZSCORE", due, id))
  local other_kind = type(at) == "table" and not is_kind("due", "zset")
  if line ~= queue and (mending or not other_kind) then
    local lease, last = nil, now_ms + TOO_LONG
    if job.Status == "running" then
      local set = forgive(redis.pcall("HGET", settings, "lease_seconds"))
      lease = type(set) == "string" and finite(set)
    end
    at = not other_kind and tonumber(at or "") or nil
    if calling then last = tonumber(job.Deadline) end
    if (not at and (job.Status ~= "running" or lease)) or (at and at > last) then
      found("due", "due", id, at and redis.call("ZSCORE", due, id) or "missing")
      if mending then
        local when = calling and now_ms or nil
        if job.Status == "running" then
          when = lease and now_ms + lease * 1000
        elseif not calling then
          when = math.max(now_ms, milliseconds(tonumber(job.DeletedAt)) + setting("retention", retention) * 1000)
        end
        if when then redis.call("ZADD", due, text(when), id) else redis.call("ZREM", due, id) end
      end
    end
  end

  local holder = forgive(redis.pcall("HGET", callbacks, job.Callback))
  local no_callbacks = type(holder) == "table" and not is_kind("callbacks", "hash")
  if mending or not no_callbacks then
    holder = not no_callbacks and holder
    if holder and holder ~= id and forgive(redis.pcall("HGET", job_ .. holder, "Callback")) == job.Callback then
      found("callback_shared", name, id, "job " .. holder .. " has it")
    elseif holder ~= id then
      found("callback", "callbacks", id, job.Callback)
      if mending then redis.call("HSET", callbacks, job.Callback, id) end
    end
  end
end

for i = ids + 1, #ARGV do
  look(ARGV[i])
end
reply[2] = largest > 0 and text(largest) or ""
return reply
