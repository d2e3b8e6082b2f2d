-- dry: run scripts one after the other, and take back what they wrote before anybody sees it.
--
-- A server runs a script as one: nobody sees what stands between two of its commands, and a replica or the file
-- gets all of it or nothing. So the scripts themselves run, on the keys as they are, and what they answer is what
-- would be. Before each writing command it is noted how to undo it, and that is done in the end, the last one
-- first, also where the scripts failed. A server that is full refuses no write after the first one.
--
-- The loader puts this around the texts of scripts. KEYS[1] is what the keys of the type begin with, ARGV of each
-- step the script's name, how many arguments it has, and these. Answers the replies, of which only the last can
-- be an error's code.

local real, undo, whole = redis, {}, {}

-- A job is put back whole: a long field that was there for a moment would leave its hash in the larger form, and
-- its fields in another order. Each is small; what else may be written is not, and is undone by its parts.
local function is_job(key)
  return string.sub(key, 1, #KEYS[1] + 4) == KEYS[1] .. "job:"
end

-- In portions, since a function takes only some thousand arguments.
local function again(command, key, words)
  local back = {}
  for at = 1, #words, 2000 do
    back[#back + 1] = { command, key, unpack(words, at, math.min(at + 1999, #words)) }
  end
  return back
end

-- All that a key holds, as the commands that write it.
local function all_of(key)
  local kind = real.call("TYPE", key).ok
  local back = {}
  if kind == "hash" then
    back = again("HSET", key, real.call("HGETALL", key))
  elseif kind == "set" then
    back = again("SADD", key, real.call("SMEMBERS", key))
  elseif kind == "list" then
    back = again("RPUSH", key, real.call("LRANGE", key, 0, -1))
  elseif kind == "string" then
    back = { { "SET", key, real.call("GET", key) } }
  elseif kind == "zset" then
    local words = real.call("ZRANGE", key, 0, -1, "WITHSCORES")
    for i = 1, #words, 2 do
      words[i], words[i + 1] = words[i + 1], words[i]
    end
    back = again("ZADD", key, words)
  elseif kind ~= "none" then
    error("a dry run cannot take back what is done to " .. key)
  end
  back[#back + 1] = { "DEL", key }
  return back
end

-- Some fields of a hash, of a step of so many words from one to the next.
local function fields_of(key, step, ...)
  if is_job(key) then
    if whole[key] then return {} end
    return all_of(key), key
  end
  local words, names, back = { ... }, {}, {}
  for at = 1, #words, step do
    names[#names + 1] = words[at]
  end
  local were = real.call("HMGET", key, unpack(names))
  for i, name in ipairs(names) do
    back[i] = were[i] and { "HSET", key, name, were[i] } or { "HDEL", key, name }
  end
  return back
end

local function scores_of(key, step, ...)
  local words, back = { ... }, {}
  -- Of scores and members the first may be behind an NX.
  for at = step + #words % step, #words, step do
    local score = real.call("ZSCORE", key, words[at])
    back[#back + 1] = score and { "ZADD", key, score, words[at] } or { "ZREM", key, words[at] }
  end
  return back
end

local function members_of(key, ...)
  local back = {}
  for _, member in ipairs({ ... }) do
    local there = real.call("SISMEMBER", key, member) == 1
    back[#back + 1] = { there and "SADD" or "SREM", key, member }
  end
  return back
end

-- Of each writing command, what would undo it.
local BEFORE = {
  DEL = all_of,
  HDEL = function(key, ...) return fields_of(key, 1, ...) end,
  HINCRBY = function(key, field) return fields_of(key, 1, field) end,
  HSET = function(key, ...) return fields_of(key, 2, ...) end,
  INCRBY = all_of,
  LTRIM = all_of,
  RPUSH = all_of,
  SADD = members_of,
  SET = all_of,
  SREM = members_of,
  ZADD = function(key, ...) return scores_of(key, 2, ...) end,
  ZREM = function(key, ...) return scores_of(key, 1, ...) end,
}

local function run(how, name, ...)
  -- Nobody is told of what did not happen.
  if name == "XADD" then return "0-0" end
  if not BEFORE[name] then return how(name, ...) end
  -- What cannot be read, as it is of another kind, the command refuses too.
  local readable, back, job = pcall(BEFORE[name], ...)
  local reply = how(name, ...)
  if type(reply) == "table" and reply.err then return reply end
  if not readable then error(back) end
  if job then whole[job] = true end
  for _, command in ipairs(back) do
    undo[#undo + 1] = command
  end
  return reply
end

-- The scripts, by name, and the arguments that each takes in order.
local SCRIPTS, ARGUMENTS = {}, {}

-- What one of them answers to another one.
local function ask(name, given)
  local words = {}
  for i, argument in ipairs(ARGUMENTS[name]) do
    words[i] = given[argument]
  end
  return SCRIPTS[name](words)
end

local redis = {
  call = function(...) return run(real.call, ...) end,
  pcall = function(...) return run(real.pcall, ...) end,
}
