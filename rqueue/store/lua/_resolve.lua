-- resolve: the pool of a job, and its name as JSON.
--
-- KEYS    projects
--
-- The client's own choice, else the pool of its project, else that of its owner, else the queue's
-- default. What a client wrote is never decoded: Data comes in two halves around the pool's name.

local function resolve(pool, project, owner_id, default)
  if pool ~= "" then return pool end
  local found = redis.call("HMGET", projects, project, owner_id)
  return project ~= "" and found[1] or found[2] or default
end

local function json(pool)
  return (string.gsub(cjson.encode(pool), "\\/", "/"))
end
