-- The requests that wrk sends, and the one line of figures it ends with.
--
-- wrk -s load.lua URL -- MODE AUTHORIZATION TAG [PATH [FILE]]
--
-- MODE create posts a new customer each time: TAG, the thread and a counter
-- make the reference, which is the e-mail address too, unique; the end of TAG,
-- the thread and the counter make the mobile number, which repeats after a
-- million customers of a thread. With FILE, PATH is empty, and the lines of FILE
-- are used in turn in place of AUTHORIZATION. MODE keyed does the same with an
-- Idempotency-Key for each customer.
-- MODE update posts another first name each time, to PATH and one of the lines of
-- FILE behind it, chosen pseudo-randomly.
-- MODE get reads PATH, or with FILE, PATH and one of the lines of FILE behind it,
-- chosen pseudo-randomly. All requests of a mode have the same size if the lines
-- have.

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

-- read returns the lines of a file.
local function read(file)
  local lines = {}
  for line in io.lines(file) do
    lines[#lines + 1] = line
  end
  return lines
end

-- seed makes math.random give another sequence in each thread and run, the same
-- for the same tag.
local function seed(tag)
  local value = number
  for i = 1, #tag do
    value = (value * 31 + tag:byte(i)) % 2147483647
  end
  math.randomseed(value)
end

local formType = "\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: "

function init(args)
  local mode, authorization, tag, path, file = args[1], args[2], args[3], args[4], args[5]
  local host = "Host: " .. wrk.host .. ":" .. wrk.port .. "\r\nAuthorization: "
  local n, format, random = 0, string.format, math.random
  if mode == "create" or mode == "keyed" then
    local reference = tag .. "-" .. number .. "-%09d%%40example.com"
    local form = "object_reference_id=" .. reference .. "&mobile_number=" .. tag:sub(-3) .. number .. "%06d" ..
      "&email_address=" .. reference .. "&first_name=Asha&last_name=Rao"
    local heads = {}
    local first = "POST /customers HTTP/1.1\r\n" .. host
    if mode == "keyed" then
      first = "POST /customers HTTP/1.1\r\nIdempotency-Key: " .. tag .. "-" .. number .. "-%09d\r\n" .. host
    end
    for i, key in ipairs(file and read(file) or { authorization }) do
      heads[i] = first .. key .. formType .. #format(form, 0, 0, 0) .. "\r\n\r\n"
    end
    request = function()
      n = n + 1
      local head = heads[n % #heads + 1]
      if mode == "keyed" then
        head = format(head, n)
      end
      return head .. format(form, n, n % 1000000, n)
    end
  elseif mode == "update" then
    local lines = read(file)
    seed(tag)
    local form = "first_name=A" .. tag .. number .. "%09d"
    local last = " HTTP/1.1\r\n" .. host .. authorization .. formType .. #format(form, 0) .. "\r\n\r\n"
    request = function()
      n = n + 1
      return "POST " .. path .. lines[random(#lines)] .. last .. format(form, n)
    end
  else
    local last = " HTTP/1.1\r\n" .. host .. authorization .. "\r\n\r\n"
    if file == nil then
      local whole = "GET " .. path .. last
      request = function() return whole end
      return
    end
    local lines = read(file)
    seed(tag)
    local first = "GET " .. path
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
