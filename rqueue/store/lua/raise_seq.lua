-- raise_seq: the ID counter is at least this.
--
-- KEYS    seq
-- ARGV    repair least
-- REPLY   what it was, where that is less, else ""
-- ERRORS

local is = redis.call("GET", seq)
local number = tonumber(is or 0)
-- What is no number is for inspect.lua.
if not number or number >= tonumber(least) then return { "ok", "" } end
if repair == "1" then redis.call("SET", seq, least) end
return { "ok", is or "missing" }
