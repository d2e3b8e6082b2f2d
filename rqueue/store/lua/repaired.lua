-- repaired: write down that rqueue check mended something in a type, of which there are events.
--
-- KEYS    events
-- NEEDS   clock order owners job
-- ARGV    repair said
-- REPLY   nothing more
-- ERRORS

if repair == "1" and redis.call("EXISTS", events) == 1 then event("repaired", nil, "", "", "rqueue check", said) end
return { "ok" }
