-- claim_reader: be the one who reads the source of a type, and stay it for so long; with `lease_ms` 0 no more.
--
-- KEYS    reader sources
-- NEEDS   clock
-- ARGV    replica lease_ms now
-- REPLY   the moment in µs, after which what is read from now on was so; of each live pool its name and how the
--         source finds it
-- ERRORS  lost_claim
--
-- The lease is by Redis's clock, and no key that expires. One beyond any that is given is a hand's.

local LONGEST_MS = 24 * 3600 * 1000
local now_us = moment(now)
local now_ms = milliseconds(now_us)
local ends, holder = string.match(redis.call("GET", reader) or "", "^(%d+):(.*)$")
ends = tonumber(ends or 0)
if holder and holder ~= replica and ends > now_ms and ends <= now_ms + LONGEST_MS then return { "lost_claim" } end
if tonumber(lease_ms) > 0 then
  redis.call("SET", reader, text(now_ms + tonumber(lease_ms)) .. ":" .. replica)
elseif holder == replica then
  redis.call("DEL", reader)
end
return { "ok", text(now_us), unpack(redis.call("HGETALL", sources)) }
