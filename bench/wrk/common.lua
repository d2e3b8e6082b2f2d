-- What wrk's scripts here share: a request is written once and cut where a job's name goes, so that
-- making the next one is joining strings. Names have one length, and so have the bodies.

local NAME = string.rep("#", 14)
JOB = '{"request_id":"' .. NAME .. '","owner_id":"y","data":{"instances":[{"VCPU":1,"Memory":1,"Disk":1}],'
  .. '"project":"project id"},"callback":"' .. NAME .. '"}'

wrk.headers["Content-Type"] = "application/json"

-- The pieces around the names in a request; `#` in path and body stands for a name.
function pieces(method, path, body)
  local text, found = wrk.format(method, path, nil, body), {}
  for piece in (text .. NAME):gmatch("(.-)" .. NAME) do found[#found + 1] = piece end
  return found
end

function marked(text) return (text:gsub("#", NAME)) end

-- The n-th name of a family: one letter and thirteen digits.
function name(letter, n) return letter .. (1000000000000 + n) end

-- One line of JSON for the bench to read; times in microseconds.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"us":%d,"p50_us":%d,"p99_us":%d,"not_2xx":%d,"broken":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
