-- For wrk: another path for each request, five header fields, a word when warm, the figures as one line of JSON.
-- BENCH_COOKIE is the Cookie field; with BENCH_CLOSE each request has a connection of its own.
-- "ready" is printed when BENCH_SKIP requests have been asked for; only later ones count.

local asked, skip, after = 0, tonumber(os.getenv("BENCH_SKIP")), ""

function init(args)
   math.randomseed(os.time())
   after = " HTTP/1.1\r\nHost: " .. wrk.headers["Host"] .. "\r\nUser-Agent: wrk\r\nAccept: */*\r\n"
      .. "Accept-Encoding: gzip, br\r\nCookie: " .. os.getenv("BENCH_COOKIE") .. "\r\n"
      .. (os.getenv("BENCH_CLOSE") and "Connection: close\r\n" or "") .. "\r\n"
end

function request()
   asked = asked + 1
   if asked == skip then
      io.stdout:write("ready\n")
      io.stdout:flush()
   end
   return "GET /x/" .. asked .. "-" .. math.random(1000000000) .. after
end

function done(summary, latency, requests)
   local e = summary.errors
   io.stdout:write(string.format(
      '{"requests": %d, "rate": %.1f, "p99_ms": %.3f, "errors": %d}\n',
      summary.requests - skip, summary.requests / summary.duration * 1e6, latency:percentile(99) / 1000,
      e.connect + e.read + e.write + e.status + e.timeout))
   io.stdout:flush()
end
