-- diagnose: which of a type's keys is not what it should be. Asked only after Redis has refused something.
--
-- KEYS    seq job: line: owners: skipped:
-- NEEDS   clock order owners
-- ARGV    kinds words...
-- REPLY   the names of damaged keys, without the prefix of their type
-- ERRORS
--
-- `kinds` is JSON {name: kind} of keys.KEYS, made by the service; `words` may be what follows a prefix: those of
-- the refused call, of which some are looked at. Of the jobs among them, their owner and pool are too.

local LOOKS = 64
local reply, seen = { "ok" }, {}

local function look(name, kind)
  local is = not seen[name] and redis.call("TYPE", KEYS[1] .. name).ok or "none"
  seen[name] = true
  if is ~= kind and is ~= "none" and kind ~= "any" then reply[#reply + 1] = name end
end

local asked = cjson.decode(kinds)
for name, kind in pairs(asked) do
  if string.sub(name, -1) ~= ":" then look(name, kind) end
end
local number = redis.pcall("GET", seq)
if type(number) == "string" and not (string.match(number, "^%d+$") and #number < 11) then reply[#reply + 1] = "seq" end
for i = words + 1, math.min(#ARGV, words + LOOKS) do
  local of = redis.pcall("HMGET", job_ .. ARGV[i], "OwnerID", "Pool", "Attempts", "ID", "Priority")
  for field = 3, 5 do
    if not of.err and of[field] and not string.match(of[field], "^-?%d+$") then
      reply[#reply + 1] = "job:" .. ARGV[i]
      break
    end
  end
  local owner, pool = not of.err and of[1] or nil, not of.err and of[2] or nil
  for name, kind in pairs(asked) do
    if string.sub(name, -1) == ":" then look(name .. ARGV[i], kind) end
  end
  if owner then look("owner:" .. owner, "zset") end
  for name, kind in pairs(pool and asked or {}) do
    if string.sub(name, -1) == ":" and name ~= "job:" then look(name .. pool, kind) end
  end
  -- Of a pool, some of those who stand there by owner.
  local standing = redis.pcall("ZRANGE", owners_ .. ARGV[i], 0, LOOKS)
  local owners_there = redis.pcall("SRANDMEMBER", skipped_ .. ARGV[i], LOOKS)
  if owners_there.err then owners_there = {} end
  for _, member in ipairs(not standing.err and standing or {}) do
    owners_there[#owners_there + 1] = string.sub(member, PLACE_DIGITS + 2)
  end
  for _, of_pool in ipairs(owners_there) do look(string.sub(line_of(ARGV[i], of_pool), #KEYS[1] + 1), "zset") end
  if owner and pool then look(string.sub(line_of(pool, owner), #KEYS[1] + 1), "zset") end
end
return reply
