-- list: one page of jobs in order, from a place on.
--
-- KEYS    queue running ended job: owner:
-- NEEDS   clock order
-- ARGV    source owner_id status cursor most bytes
-- REPLY   the place of the last job looked at or "" at the end, then {request_id, its fields} of each
-- ERRORS
--
-- `source` is queue, running, live (both, in one order), owner or ended. A job that has another
-- owner or status than asked for is looked at and left out, so a page may be short of `most`, or
-- end early when its jobs fill `bytes`; only an empty place ends the list.

local sets = { queue = { queue }, running = { running }, live = { queue, running }, ended = { ended } }
sets.owner = { owner_ .. owner_id }

local score, member = nil, nil
if cursor ~= "" then
  score, member = place_of(cursor)
end
local streams = {}
for i, set in ipairs(sets[source]) do
  local start = 0
  if score then
    start = before(set, score, member)
    if redis.call("ZRANGE", set, start, start)[1] == member then
      start = start + 1
    end
  end
  local found = redis.call("ZRANGE", set, start, start + tonumber(most) - 1, "WITHSCORES")
  streams[i] = { found = found, at = 1 }
end

local function next_entry()
  local best = nil
  for _, stream in ipairs(streams) do
    local name, value = stream.found[stream.at], tonumber(stream.found[stream.at + 1])
    if name and (not best or precedes(value, name, best.score, best.member)) then
      best = { stream = stream, score = value, member = name }
    end
  end
  if best then
    best.stream.at = best.stream.at + 2
  end
  return best
end

local reply, size, looked = { "ok", "" }, 0, 0
for _ = 1, tonumber(most) do
  local entry = next_entry()
  if not entry or size > tonumber(bytes) then break end
  looked = looked + 1
  reply[2] = place_text(entry.score, entry.member)
  local id = source == "ended" and entry.member or id_of(entry.member)
  local state = redis.pcall("HMGET", job_ .. id, "Status", "OwnerID")
  if state[1] and (status == "" or state[1] == status) and (owner_id == "" or state[2] == owner_id) then
    local fields = redis.call("HGETALL", job_ .. id)
    for _, value in ipairs(fields) do
      size = size + #value
    end
    reply[#reply + 1] = { id, fields }
  end
end
if looked < tonumber(most) and size <= tonumber(bytes) then
  reply[2] = ""
end
return reply
