-- said: what changed, in words for people that have an end.
--
-- KEYS

-- So many bytes or so, and so many fields by name.
local MOST_BYTES = 256
local MOST_NAMED = 100

-- "a, b and 37 more", where these are the first of so many.
local function listed(words, count)
  local said, bytes = {}, 0
  for i, word in ipairs(words) do
    bytes = bytes + #word + 2
    if i > 1 and bytes > MOST_BYTES then break end
    said[i] = word
  end
  local more = count - #said
  return table.concat(said, ", ") .. (more > 0 and " and " .. more .. " more" or "")
end

-- The fields of which two maps have different values: some of them, and how many there are.
local function differing(was, is)
  local fields, count = {}, 0
  for _, maps in ipairs({ { is, was }, { was, is } }) do
    for field, value in pairs(maps[1]) do
      local other = maps[2][field]
      if other == nil or (maps[1] == is and other ~= value) then
        count = count + 1
        if count <= MOST_NAMED then fields[count] = field end
      end
    end
  end
  table.sort(fields)
  return fields, count
end

local function amount_said(field, was, is)
  return field .. " " .. string.sub(was or "none", 1, 20) .. " -> " .. string.sub(is or "none", 1, 20)
end
