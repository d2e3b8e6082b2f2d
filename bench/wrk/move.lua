-- move: a job of the family k between two neighbours of the family j, which never move.  Words as get's.
dofile("common.lua")

local pairs_, size, head, after, before, tail

function init(words)
  size = tonumber(words[2])
  pairs_ = math.floor(size / 2)
  math.randomseed(tonumber(words[3]))
  head, after, before, tail =
    unpack(pieces("POST", marked("/v1/" .. words[1] .. "/#"), marked('{"after":"#","before":"#"}')))
end

function request()
  local first = 2 * math.random(0, pairs_ - 1)
  return head .. name("k", math.random(0, size - 1)) .. after .. name("j", first)
    .. before .. name("j", first + 1) .. tail
end
