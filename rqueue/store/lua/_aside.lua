-- aside: what a hand edit broke is put out of the way, under `damaged:` and the name that it had.
--
-- KEYS    damaged:
-- NEEDS   clock order owners job
--
-- For scripts with the argument `repair`: "1" mends what is found, else it is only told.

local mending = repair == "1"
-- What is told: {code, the key's name without the prefix of its type, request_id or pool, more about it}.
local reply = { "ok", "" }

local function found(code, name, id, about)
  reply[#reply + 1] = { code, name, id or "", about or "" }
end

-- A key gets another name.
local function key_aside(name)
  local to, at = damaged_ .. name, 1
  while redis.call("EXISTS", to) == 1 do
    at = at + 1
    to = damaged_ .. name .. ":" .. at
  end
  redis.call("RENAME", KEYS[1] .. name, to)
end

-- A field of a hash goes to a hash of that name, of the first such that has no other value for it.
local function field_aside(name, field, value)
  local to, at = damaged_ .. name, 1
  while (forgive(redis.pcall("HGET", to, field)) or value) ~= value do
    at = at + 1
    to = damaged_ .. name .. ":" .. at
  end
  redis.call("HSET", to, field, value)
  redis.call("HDEL", KEYS[1] .. name, field)
end

-- A key that someone gave a time to live would vanish with all that it holds.
local function stays(name)
  if redis.call("PTTL", KEYS[1] .. name) < 0 then return end
  found("expires", name)
  if mending then redis.call("PERSIST", KEYS[1] .. name) end
end

-- Whether a key is of its kind, or is not there. One that is of another kind is told of, and put aside.
local function is_kind(name, kind)
  local is = redis.call("TYPE", KEYS[1] .. name).ok
  stays(name)
  if is == kind or is == "none" then return true end
  found("wrong_kind", name, "", is .. ", not " .. kind)
  if mending then
    key_aside(name)
    -- Made again from those who wait.
    local base = string.match(name, "^(%a+):")
    if base == "line" or base == "owners" or base == "shares" or base == "firsts" or base == "skipped" then sort_by_owner(true) end
  end
  return false
end

-- A whole number as the service writes it, or nil.
local function counted(written, least, most)
  local number = string.match(written or "", "^-?%d+$") and tonumber(written)
  return number and number >= least and number <= most and number or nil
end

-- A rank as the service writes it, or nil.
local function ranked(written)
  local rank = #written == RANK_DIGITS and string.match(written, "^%x+$") and tonumber(written, 16)
  return rank and rank <= MAX_RANK and hex(rank) == written and rank or nil
end

-- Have an owner stand where it belongs; where another key is of the wrong kind, that is mended first.
local function stand_owner(pool, owner)
  local ran, fault = pcall(rank_owner, pool, owner, true)
  if not ran then forgive(type(fault) == "table" and fault or { err = fault }) end
end

-- Have a pool examined afresh.
local function examine_afresh(pool)
  forgive(redis.pcall("HDEL", heads, pool))
  forgive(redis.pcall("SADD", wake, pool))
end

local LIVE = { queued = "queue", calling = "running", running = "running" }
local DONE = { done = true, cancelled = true, failed = true, expired = true }
