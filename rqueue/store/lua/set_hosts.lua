-- set_hosts: change the hosts of a pool, or declare it with them. Only run dry.
--
-- KEYS    queue pools heads capacity:
-- NEEDS   clock order owners job
-- ARGV    pool hosts_of
-- REPLY   nothing more
-- ERRORS
--
-- `hosts_of` is JSON {host: {resource: amount}}, made by the service; a host without amounts is taken away. The others
-- stay as they are.

local hosts = cjson.decode(hosts_of)
local held = redis.call("HGETALL", capacity_ .. pool)
local bounds = {}
local function count(resource, amount)
  local most = bounds[resource] or { 0, 0 }
  bounds[resource] = { math.max(most[1], amount), most[2] + amount }
end
for i = 1, #held, 2 do
  local host, resource = string.match(held[i], "^([^/]*)/(.*)$")
  if host and hosts[host] then
    redis.call("HDEL", capacity_ .. pool, held[i])
  elseif host and finite(held[i + 1]) then
    count(resource, finite(held[i + 1]))
  end
end
for host, amounts in pairs(hosts) do
  for resource, amount in pairs(amounts) do
    redis.call("HSET", capacity_ .. pool, host .. "/" .. resource, text(amount))
    count(resource, amount)
  end
end
local written = {}
for resource, most in pairs(bounds) do
  written[#written + 1] = cjson.encode(resource) .. ":[" .. text(most[1]) .. "," .. text(most[2]) .. "]"
end
redis.call("HSET", pools, pool, "{" .. table.concat(written, ",") .. "}")
redis.call("HDEL", heads, pool)
look_again(pool)
room_made(pool)
return { "ok" }
