-- get: one job of a line, at random.  Words: the type, how many jobs each family has, a seed.
dofile("common.lua")

local size, head, tail

function init(words)
  size = tonumber(words[2])
  math.randomseed(tonumber(words[3]))
  head, tail = unpack(pieces("GET", marked("/v1/" .. words[1] .. "/#")))
end

function request()
  return head .. name("j", math.random(0, size - 1)) .. tail
end
