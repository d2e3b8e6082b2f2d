-- create: one new job a request.  Words: the type, the number of the first job, how many an array
-- holds (0: no array).
dofile("common.lua")

local n, count, head, middle, between, tail

function init(words)
  n, count = tonumber(words[2]), tonumber(words[3])
  local body = count == 0 and JOB or "[" .. string.rep(JOB, count, ",") .. "]"
  local all = pieces("POST", "/v1/" .. words[1] .. "/", body)
  head, middle, between, tail = all[1], all[2], all[3], all[#all]
end

function request()
  if count == 0 then
    n = n + 1
    local id = name("c", n)
    return head .. id .. middle .. id .. tail
  end
  local parts = {}
  for i = 1, count do
    n = n + 1
    local id = name("c", n)
    parts[i] = id .. middle .. id
  end
  return head .. table.concat(parts, between) .. tail
end
