-- clock: the moment, in microseconds since 1970, and numbers as text.
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
