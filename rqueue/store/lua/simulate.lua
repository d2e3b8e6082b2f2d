-- simulate: examine the pools that have reason to be, and say who waits then. Only run dry.
--
-- KEYS    wake pools pool:
-- NEEDS   clock order
-- ARGV    pool owners nonce call_deadline patience stale_after claim_ms most most_pools first_of most_hosts now names...
-- REPLY   1 where there is more to do, else 0; who was admitted, as `admit` has them; of those that wait, of the names
--         and of the first of each pool: {request_id, what `get` answers, what `explain` answers}
-- ERRORS
--
-- With a pool, only that one. The scripts it asks are the service's own, which stand beside it.

local more, admitted, waiting, seen = 0, {}, {}, {}
local chosen, known = {}, {}
local function choose(found)
  table.sort(found)
  for _, name in ipairs(found) do
    if not known[name] then
      known[name] = true
      if #chosen < tonumber(most_pools) then chosen[#chosen + 1] = name else more = 1 end
    end
  end
end
if pool ~= "" then
  choose({ pool })
else
  choose(redis.call("SMEMBERS", wake))
  choose(redis.call("HKEYS", pools))
end
for _, name in ipairs(chosen) do
  local left = tonumber(most) - #admitted
  if redis.call("SISMEMBER", wake, name) == 1 then
    if left > 0 then
      local reply = ask("admit", {
        pool = name, nonce = nonce, call_deadline = call_deadline, patience = patience, claim_ms = claim_ms,
        most = text(left), stale_after = stale_after, now = now,
      })
      more = math.max(more, reply[2])
      for i = 3, #reply do admitted[#admitted + 1] = reply[i] end
    else
      more = 1
    end
  end
end
local function show(id)
  if seen[id] then return end
  seen[id] = true
  local job = ask("get", { request_id = id, stale_after = stale_after, owners = owners, now = now })
  if job[1] == "ok" and #job > 2 then
    waiting[#waiting + 1] = { id, job, ask("explain", { request_id = id, most_hosts = most_hosts }) }
  end
end
for i = names + 1, #ARGV do show(ARGV[i]) end
for _, name in ipairs(chosen) do
  for _, member in ipairs(redis.call("ZRANGE", pool_ .. name, 0, tonumber(first_of) - 1)) do
    show(id_of(member))
  end
end
return { "ok", more, admitted, waiting }
