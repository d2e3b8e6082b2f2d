-- set_aside: put a key that is none of a type's, or a field that cannot be read, out of the way.
--
-- KEYS    heads wake damaged:
-- NEEDS   clock order owners job aside
-- ARGV    repair place field value
-- REPLY   "1" where it was still there, else ""
-- ERRORS
--
-- Without a field the key, else the field of it if it still has this value.

local key = KEYS[1] .. place
if field == "" then
  if redis.call("EXISTS", key) == 0 then return { "ok", "" } end
  if mending then key_aside(place) end
else
  if forgive(redis.pcall("HGET", key, field)) ~= value then return { "ok", "" } end
  if mending then field_aside(place, field, value) end
end
return { "ok", "1" }
