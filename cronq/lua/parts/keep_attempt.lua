-- Part of every script that begins another attempt: start, park, rerun, reopen and settle.

-- Writes into a lean row what lean_row has taken out of it.
local function restore_row(row)
    local known = redis.call('HMGET', row, 'facts', 'tick', 'host', 'outcome', 'worker')
    if known[4] ~= 'succeeded' then return end
    local worker = known[5]
    local pid, queued, waited, worked, rss, user, system, ending =
        string.match(known[1] or '', '^(%d+) (%-?%d+) (%-?%d+) (%-?%d+) (%S+) (%S+) (%S+) (%S+)$')
    if pid then
        local from = (tonumber(known[2] or '') or 0) * 1000 + tonumber(queued)
        local function seconds(ms) return string.format('%.3f', ms / 1000) end
        redis.call('HSET', row, 'pid', pid, 'queued_at', seconds(from), 'started_at', seconds(from + tonumber(waited)),
            'ended_at', seconds(from + tonumber(waited) + tonumber(worked)))
        if rss ~= '-' then redis.call('HSETNX', row, 'exit_code', '0') end
        ending = string.match(ending, '^[^+]+')
        if ending and ending ~= '-' then worker = (known[3] or '') .. '.' .. pid .. '.' .. ending end
    end
    redis.call('HDEL', row, 'facts')
    if worker then redis.call('HSETNX', row, 'decided_by', 'worker ' .. worker) end
    redis.call('HSETNX', row, 'reason', 'it ran to its end')
end

-- Moves what is known of the attempt that has ended into the row's `attempts` (JSON, the last 20, oldest first), and
-- opens the row for the next one. *attempt* is the number of the one that ended. Crashes, retries and snoozes so far
-- are forgotten, for a person has begun anew; rerun and settle write them again.
local function keep_attempt(row, attempt)
    restore_row(row)
    local facts = {'outcome', 'reason', 'cause', 'decided_by', 'host', 'pid', 'started_at', 'ended_at', 'exit_code',
        'error'}
    local values = redis.call('HMGET', row, 'attempts', unpack(facts))
    local kept = {attempt = attempt}
    for i, name in ipairs(facts) do kept[name] = values[i + 1] or nil end
    if kept.error then kept.error = string.sub(kept.error, -4000) end  -- a row of 20 tracebacks may not grow large
    local fine, list = pcall(cjson.decode, values[1] or '[]')
    if not fine or type(list) ~= 'table' then list = {} end
    list[#list + 1] = kept
    while #list > 20 do table.remove(list, 1) end
    local encodes, text = pcall(cjson.encode, list)  -- not so when somebody wrote infinity into it
    redis.call('HSET', row, 'attempts', encodes and text or cjson.encode({kept}))
    redis.call('HDEL', row, 'outcome', 'reason', 'cause', 'decided_by', 'ended_at', 'exit_code', 'error', 'result',
        'fence', 'max_rss_kib', 'user_s', 'system_s', 'start_ms', 'replaced', 'signal', 'crashes',
        'retried', 'snoozed_since', 'slow')
    redis.call('PERSIST', row)  -- it may not end before its run does; settling gives it a life again
end
