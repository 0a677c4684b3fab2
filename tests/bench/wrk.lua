-- The result of a run as one line of JSON, the last on stdout.
done = function(summary, latency)
    local e = summary.errors
    io.write(string.format('{"requests":%d,"seconds":%.6f,"bytes":%d,"p50_ms":%.3f,"p99_ms":%.3f,"errors":%d}\n', summary.requests,
        summary.duration / 1e6, summary.bytes, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        e.connect + e.read + e.write + e.status + e.timeout))
end
