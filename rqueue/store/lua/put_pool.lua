-- put_pool: declare a pool: its hosts with their amounts, or how a live source finds them, and the projects that
-- belong to it.
--
-- KEYS    settings pools projects sources observed source_errors capacity: quotas: queue apart
-- NEEDS   clock order owners job said
-- ARGV    pool source found_by amounts_of projects_of quotas_of bounds actor
-- REPLY   nothing more
-- ERRORS  project_taken wrong_source
--
-- `amounts_of` is JSON {"<host>/<resource>": "amount"}, `projects_of` a JSON list, both made by the
-- service, `quotas_of` too: {owner: what is kept}; `bounds` is kept as it comes. `found_by` is JSON that the source
-- reads, "" for declared hosts. What jobs hold stays charged, whatever the hosts are now.

local function map_of(key)
  local map, flat = {}, redis.call("HGETALL", key)
  for i = 1, #flat, 2 do map[flat[i]] = flat[i + 1] end
  return map
end

local is = redis.call("HGET", settings, "source") or "declared"
if is ~= source then return { "wrong_source", is } end
local wanted = {}
for _, project in ipairs(cjson.decode(projects_of)) do
  local holder = redis.call("HGET", projects, project)
  if holder and holder ~= pool then return { "project_taken", project, holder } end
  wanted[project] = true
end
local there, changed, count = redis.call("HEXISTS", pools, pool) == 1, {}, 0
local function changes(word)
  count = count + 1
  changed[count] = word
end
local others = false
local held = redis.call("HGETALL", projects)
for i = 1, #held, 2 do
  if held[i + 1] == pool and not wanted[held[i]] then others = redis.call("HDEL", projects, held[i]) == 1 end
end
for project in pairs(wanted) do
  others = redis.call("HSET", projects, project, pool) == 1 or others
end
if others then changes("projects") end
if found_by == "" then
  local was, now = map_of(capacity_ .. pool), cjson.decode(amounts_of)
  redis.call("DEL", capacity_ .. pool)
  for field, amount in pairs(now) do
    redis.call("HSET", capacity_ .. pool, field, amount)
  end
  local fields, all = differing(was, now)
  for _, field in ipairs(fields) do changes(amount_said(field, was[field], now[field])) end
  count = count + all - #fields
  redis.call("HSET", pools, pool, bounds)
elseif redis.call("HGET", sources, pool) ~= found_by then
  -- Other hosts, of which nothing is known until they are read; those shown until then admit nobody.
  redis.call("HSET", observed, pool, "0")
  redis.call("HSET", sources, pool, found_by)
  redis.call("HDEL", source_errors, pool)
  changes("how it is found")
  if redis.call("HEXISTS", pools, pool) == 0 then redis.call("HSET", pools, pool, bounds) end
end
local quotas = cjson.decode(quotas_of)
local _, otherwise = differing(map_of(quotas_ .. pool), quotas)
if otherwise > 0 then changes("quotas") end
redis.call("DEL", quotas_ .. pool)
for owner, limits in pairs(quotas) do
  redis.call("HSET", quotas_ .. pool, owner, limits)
  sort_by_owner(false)
end
redis.call("HDEL", heads, pool)
look_again(pool)
room_made(pool)
if count > 0 or not there then event("capacity", nil, there and pool or "", pool, actor, listed(changed, count)) end
return { "ok" }
