-- resolve: the pool of a job, and its Data with that pool written in.
--
-- KEYS    projects settings
--
-- The client's own choice, else the pool of its project, else that of its owner, else the queue's
-- default. What a client wrote is never decoded: Data comes in two halves around the pool's name.

local function resolve(pool, project, owner_id, default_pool)
  if pool ~= "" then return pool end
  local found = project ~= "" and redis.call("HGET", projects, project)
  return found
    or redis.call("HGET", projects, owner_id)
    or redis.call("HGET", settings, "default_pool")
    or default_pool
end

local function data_with(pool, head, tail)
  return head .. string.gsub(cjson.encode(pool), "\\/", "/") .. tail
end
