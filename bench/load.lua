-- The requests that wrk sends, and the one line of figures it ends with.
--
-- wrk -s load.lua URL -- MODE AUTHORIZATION TAG [FILE]
--
-- MODE create posts a new customer each time: TAG, the thread and a counter
-- make the reference unique. MODE get reads /customers/LINE for lines of FILE,
-- chosen pseudo-randomly. All requests of a mode have the same size.

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  local mode, authorization, tag, file = args[1], args[2], args[3], args[4]
  local common = "Host: " .. wrk.host .. ":" .. wrk.port .. "\r\nAuthorization: " .. authorization .. "\r\n"
  if mode == "create" then
    local format = tag .. "-" .. number .. "-%09d%%40example.com"
    local middle = "&mobile_number=9988776655&email_address="
    local last = "&first_name=Asha&last_name=Rao"
    local first = "object_reference_id="
    local size = #first + #middle + #last + 2 * #string.format(format, 0)
    first = "POST /customers HTTP/1.1\r\n" .. common ..
      "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " .. size .. "\r\n\r\n" .. first
    local n = 0
    request = function()
      n = n + 1
      local reference = string.format(format, n)
      return first .. reference .. middle .. reference .. last
    end
  else
    local lines, random = {}, math.random
    for line in io.lines(file) do
      lines[#lines + 1] = line
    end
    -- Another sequence in each thread and run, the same for the same tag.
    local seed = number
    for i = 1, #tag do
      seed = (seed * 31 + tag:byte(i)) % 2147483647
    end
    math.randomseed(seed)
    local last = " HTTP/1.1\r\n" .. common .. "\r\n"
    request = function()
      return "GET /customers/" .. lines[random(#lines)] .. last
    end
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\nRESULT {"requests":%d,"micros":%d,"p50":%d,"p99":%d,"max":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    e.connect, e.read, e.write, e.timeout, e.status))
end
