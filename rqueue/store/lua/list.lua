-- list: one page of jobs in order, from a place on.
--
-- KEYS    queue running ended job: owner:
-- NEEDS   clock order owners job
-- ARGV    source owners status cursor most looks bytes position search
-- REPLY   the cursor of the last job looked at or "" at the end, then {request_id, its fields} of each
-- ERRORS
--
-- `source` is queue, running, live (both, in one order), owner or ended; `owners` a JSON list, or "" for all. A job that has another
-- owner or status than asked for, or holds no `search` (in lower case), is looked at, `looks` of them at the most, and left out; so a page may
-- be short of `most`, also where those looked at fill `bytes`, and only an empty cursor ends the list. A cursor
-- is the last job's UpdatedAt and place: a job that only got another rank since then has not moved, and
-- the list goes on from where it stands now. A `position` that is not "" is where the list starts in place of a cursor.

local sets = { queue = { queue }, running = { running }, live = { queue, running }, ended = { ended } }
sets.owner = {}
local asked = {}
for i, owner in ipairs(owners ~= "" and cjson.decode(owners) or {}) do
  asked[owner] = true
  sets.owner[i] = owner_ .. owner
end
local last = tonumber(looks)
local stamp, place = string.match(cursor, "^(%d*):(.*)$")
local score, member = place_of(place or "")
-- Where a job stands now is told only to whom the list is open to: a cursor may be of anyone's making.
local at_cursor = score and source ~= "ended" and known_to(owners, id_of(member)) and load(id_of(member))
if at_cursor and at_cursor.UpdatedAt == stamp and at_cursor.priority == score then member = at_cursor.member end

-- Of other letters than ASCII's the case counts: Lua knows no other.
local function holds(id, job)
  for _, written in ipairs({ id, job.OwnerID or "", job.Data or "" }) do
    if string.find(string.lower(written), search, 1, true) then return true end
  end
  return false
end

local entries = {}
for _, set in ipairs(sets[source]) do
  local start = score and before(set, score, member) or tonumber(position) or 0
  if score and redis.call("ZRANGE", set, start, start)[1] == member then start = start + 1 end
  local found = redis.call("ZRANGE", set, start, start + last - 1, "WITHSCORES")
  for i = 1, #found, 2 do
    entries[#entries + 1] = { member = found[i], score = tonumber(found[i + 1]) }
  end
end
if #sets[source] > 1 then
  table.sort(entries, function(a, b) return precedes(a.score, a.member, b.score, b.member) end)
end

local reply, size = { "ok", "" }, 0
for i, entry in ipairs(entries) do
  local id = source == "ended" and entry.member or id_of(entry.member)
  local job, fields, bytes_of_job = all_fields(id)
  size = size + bytes_of_job
  if job.Status and (status == "" or job.Status == status) and (owners == "" or asked[job.OwnerID])
    and (search == "" or holds(id, job)) then
    reply[#reply + 1] = { id, fields }
  end
  if i == last or #reply - 2 == tonumber(most) or size > tonumber(bytes) then
    -- A stamp that a hand edit made no number would be no cursor, and the list would begin anew for ever.
    reply[2] = (string.match(string.sub(job.UpdatedAt or "", 1, 18), "^%d+$") or "") .. ":" .. place_text(entry.score, entry.member)
    break
  end
end
return reply
