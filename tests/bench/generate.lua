-- wrk's requests and result. If BENCH_LENGTH is set, each request is a POST of a new prompt of 4 letters for that many
-- characters. Otherwise wrk sends its own requests. The result is one line of JSON, with times in milliseconds.
local length = os.getenv("BENCH_LENGTH")
local letters = "abcdefghijklmnopqrstuvwxyz"

if length then
    math.randomseed(1)
    function request()
        local prompt = ""
        for _ = 1, 4 do
            local i = math.random(#letters)
            prompt = prompt .. letters:sub(i, i)
        end
        local body = string.format('{"prompt":"%s","length":%s}', prompt, length)
        return wrk.format("POST", nil, {["Content-Type"] = "application/json"}, body)
    end
end

function done(summary, latency, requests)
    local e = summary.errors
    io.write(string.format('{"rate":%.3f,"p50":%.4f,"p95":%.4f,"p99":%.4f,"requests":%d,"errors":%d}\n',
        summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3,
        latency:percentile(99) / 1e3, summary.requests, e.connect + e.read + e.write + e.status + e.timeout))
end
