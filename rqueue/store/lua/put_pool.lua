-- put_pool: declare a pool: its hosts with their amounts, and the projects that belong to it.
--
-- KEYS    pools projects capacity: quotas: queue apart
-- NEEDS   clock order owners job
-- ARGV    pool amounts_of projects_of quotas_of bounds actor
-- REPLY   nothing more
-- ERRORS  project_taken
--
-- `amounts_of` is JSON {"<host>/<resource>": "amount"}, `projects_of` a JSON list, both made by the
-- service, `quotas_of` too: {owner: what is kept}; `bounds` is kept as it comes. What jobs hold stays charged, whatever the hosts are now.

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
redis.call("DEL", capacity_ .. pool)
for field, amount in pairs(cjson.decode(amounts_of)) do
  redis.call("HSET", capacity_ .. pool, field, amount)
end
redis.call("DEL", quotas_ .. pool)
for owner, limits in pairs(cjson.decode(quotas_of)) do
  redis.call("HSET", quotas_ .. pool, owner, limits)
  sort_by_owner(false)
end
redis.call("HSET", pools, pool, bounds)
redis.call("HDEL", heads, pool)
look_again(pool)
room_made(pool)
event("capacity", "", "", pool, actor)
return { "ok" }
