-- What load.lua does for Grahak, for others: posts a new customer each time.
--
-- wrk -s peers.lua URL -- MODE AUTHORIZATION TAG PATH
--
-- MODE pocketbase posts JSON and stripe a form to PATH. What makes the values unique
-- is as in load.lua.

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  local mode, authorization, tag, path = args[1], args[2], args[3], args[4]
  local address, mobile = tag .. "-" .. number .. "-%09d", tag:sub(-3) .. number .. "%06d"
  local kind, body
  if mode == "pocketbase" then
    kind = "application/json"
    address = address .. "@example.com"
    body = '{"reference":"' .. address .. '","mobile":"' .. mobile .. '","email":"' .. address .. '","first_name":"Asha","last_name":"Rao"}'
  else
    kind = "application/x-www-form-urlencoded"
    address = address .. "%%40example.com"
    body = "metadata[reference]=" .. address .. "&phone=" .. mobile .. "&email=" .. address .. "&name=Asha+Rao"
  end
  local format, n = string.format, 0
  local head = "POST " .. path .. " HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port .. "\r\nAuthorization: " .. authorization ..
    "\r\nContent-Type: " .. kind .. "\r\nContent-Length: " .. #format(body, 0, 0, 0) .. "\r\n\r\n"
  request = function()
    n = n + 1
    return head .. format(body, n, n % 1000000, n)
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\nRESULT {"requests":%d,"micros":%d,"p50":%d,"p99":%d,"max":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    e.connect, e.read, e.write, e.timeout, e.status))
end
