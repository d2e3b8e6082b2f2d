-- clock: the moment, in microseconds since 1970, numbers as text, and what Redis refuses.
--
-- KEYS
--
-- `..` and tostring keep 14 digits; priorities and microseconds have 16. `%d` takes half as long as
-- `%.0f`, which is for what a hand edit made endless.

local function text(number)
  return string.format(number > -1e18 and number < 1e18 and "%d" or "%.0f", number)
end

-- A number, or nil also for what tonumber takes beside them: nan and inf, from which nothing can be reckoned.
local function finite(written)
  local number = tonumber(written or "")
  return number and number > -math.huge and number < math.huge and number or nil
end

local function moment(now)
  if now ~= "" then return tonumber(now) end
  local time = redis.call("TIME")
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- due and all that is compared with it counts in milliseconds, rounded up so that nothing is early.
local function milliseconds(microseconds)
  return math.ceil(microseconds / 1000)
end

-- What redis.pcall answered, where a hand edit may be why Redis refuses: a key of another kind, or what is no
-- number, or too large a one. Any other refusal, as of a command that the Redis user may not run, is no fault
-- of the key, and is raised again.
local function forgive(reply)
  if type(reply) == "table" and reply.err then
    for _, said in ipairs({ "WRONGTYPE", "not an integer", "out of range", "not a valid float", "overflow",
      "not a number", "exhausted the last possible ID" }) do
      if string.find(reply.err, said, 1, true) then return reply end
    end
    error(reply)
  end
  return reply
end
