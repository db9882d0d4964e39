-- The requests that wrk sends, and the one line of figures it ends with.
--
-- wrk -s load.lua URL -- MODE AUTHORIZATION TAG [PATH [FILE]]
--
-- MODE create posts a new customer each time: TAG, the thread and a counter
-- make the reference, which is the e-mail address too, unique; the end of TAG,
-- the thread and the counter make the mobile number, which repeats after a
-- million customers of a thread.
-- MODE get reads PATH, or with FILE, PATH and one of the lines of FILE behind it,
-- chosen pseudo-randomly. All requests of a mode have the same size if the lines
-- have.

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  local mode, authorization, tag, path, file = args[1], args[2], args[3], args[4], args[5]
  local common = "Host: " .. wrk.host .. ":" .. wrk.port .. "\r\nAuthorization: " .. authorization .. "\r\n"
  if mode == "create" then
    local reference = tag .. "-" .. number .. "-%09d%%40example.com"
    local form = "object_reference_id=" .. reference .. "&mobile_number=" .. tag:sub(-3) .. number .. "%06d" ..
      "&email_address=" .. reference .. "&first_name=Asha&last_name=Rao"
    local head = "POST /customers HTTP/1.1\r\n" .. common ..
      "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " .. #string.format(form, 0, 0, 0) .. "\r\n\r\n"
    local n, format = 0, string.format
    request = function()
      n = n + 1
      return head .. format(form, n, n % 1000000, n)
    end
  elseif file == nil then
    local whole = "GET " .. path .. " HTTP/1.1\r\n" .. common .. "\r\n"
    request = function() return whole end
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
    local first, last = "GET " .. path, " HTTP/1.1\r\n" .. common .. "\r\n"
    request = function()
      return first .. lines[random(#lines)] .. last
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
