-- explain: what keeps the first waiting job of a pool from its hosts.
--
-- KEYS    queue heads observed capacity: pool: job:
-- NEEDS   clock order owners job pack
-- ARGV    request_id most_hosts
-- REPLY   nothing, where nothing is found out; else how many instances of a shape are asked for, for how many of
--         them there is room, the shape as JSON, and the resource of which no host has enough: its name, the amount
--         that the host has which has most, and that host; "" where each alone is there
-- ERRORS
--
-- Apart from `get`, since to look at hosts takes a time that grows with them: it is asked for the first in line only.

local job = load(request_id)
if not job or job.Status ~= "queued" then return { "ok" } end
local score, member = head_of(job.Pool)
local is_head = job.priority == score and job.member == member
if not is_head and redis.call("ZRANK", pool_ .. job.Pool, job.member) ~= 0 then return { "ok" } end
local readable, runs = pcall(runs_of, job.Demand or "", job.Pool)
if not readable or redis.call("HLEN", capacity_ .. job.Pool) > tonumber(most_hosts) * 4 then return { "ok" } end
local hosts = hosts_of(job.Pool, redis.call("HGET", observed, job.Pool))
complete(hosts)
for _, run in ipairs(runs) do
  local _, _, sum = room(hosts, hosts.free, run.shape, run.count)
  if sum < run.count then
    local names, lacking, most, where = {}, "", 0, ""
    for resource in pairs(run.shape) do names[#names + 1] = resource end
    table.sort(names)
    for _, resource in ipairs(names) do
      local free, best = -math.huge, ""
      for host, amount in pairs(hosts.free[resource] or {}) do
        local name = hosts.names[host]
        if amount > free or (amount == free and name < best) then free, best = amount, name end
      end
      if free < run.shape[resource] and lacking == "" then
        lacking, most, where = resource, math.max(free, 0), best
      end
    end
    return { "ok", run.count, sum, cjson.encode(run.shape), lacking, text(most), where }
  end
end
-- There is room for each shape; for all of them at once there may be none.
return { "ok", 0, fit(runs, hosts) and 1 or 0, "{}", "", "0", "" }
