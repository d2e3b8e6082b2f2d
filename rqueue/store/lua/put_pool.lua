-- put_pool: declare a pool: its hosts with their amounts, or how a live source finds them, and the projects that
-- belong to it.
--
-- KEYS    settings pools projects sources observed source_errors capacity: quotas: queue apart
-- NEEDS   clock order owners job
-- ARGV    pool source found_by amounts_of projects_of quotas_of bounds actor
-- REPLY   nothing more
-- ERRORS  project_taken wrong_source
--
-- `amounts_of` is JSON {"<host>/<resource>": "amount"}, `projects_of` a JSON list, both made by the
-- service, `quotas_of` too: {owner: what is kept}; `bounds` is kept as it comes. `found_by` is JSON that the source
-- reads, "" for declared hosts. What jobs hold stays charged, whatever the hosts are now.

local is = redis.call("HGET", settings, "source") or "declared"
if is ~= source then return { "wrong_source", is } end
local wanted = {}
for _, project in ipairs(cjson.decode(projects_of)) do
  local holder = redis.call("HGET", projects, project)
  if holder and holder ~= pool then return { "project_taken", project, holder } end
  wanted[project] = true
end
local held = redis.call("HGETALL", projects)
for i = 1, #held, 2 do
  if held[i + 1] == pool and not wanted[held[i]] then redis.call("HDEL", projects, held[i]) end
end
for project in pairs(wanted) do
  redis.call("HSET", projects, project, pool)
end
if found_by == "" then
  redis.call("DEL", capacity_ .. pool)
  for field, amount in pairs(cjson.decode(amounts_of)) do
    redis.call("HSET", capacity_ .. pool, field, amount)
  end
  redis.call("HSET", pools, pool, bounds)
elseif redis.call("HGET", sources, pool) ~= found_by then
  -- Other hosts, of which nothing is known until they are read; those shown until then admit nobody.
  redis.call("HSET", observed, pool, "0")
  redis.call("HSET", sources, pool, found_by)
  redis.call("HDEL", source_errors, pool)
  if redis.call("HEXISTS", pools, pool) == 0 then redis.call("HSET", pools, pool, bounds) end
end
redis.call("DEL", quotas_ .. pool)
for owner, limits in pairs(cjson.decode(quotas_of)) do
  redis.call("HSET", quotas_ .. pool, owner, limits)
  sort_by_owner(false)
end
redis.call("HDEL", heads, pool)
look_again(pool)
room_made(pool)
event("capacity", nil, "", pool, actor)
return { "ok" }
