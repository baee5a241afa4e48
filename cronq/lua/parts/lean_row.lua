-- Part of settle. Takes out of *row*, the fields of a run that has just ended, what is the default, what follows from
-- other fields and what nobody needs any more; a good run's numbers go into one field. keep_attempt undoes it, and
-- runs/run.py reads it. A lost run stays whole: its guardian may be back.
local function lean_row(row)
    if row.outcome == 'lost' then return end
    row.execution, row.max_crashes, row.retried, row.snoozed_since = nil, nil, nil, nil
    if row.trigger == 'schedule' then row.trigger = nil end
    if row.queue == 'default' then row.queue = nil end
    if row.attempt == '1' then row.attempt = nil end
    if row.outcome ~= 'succeeded' then return end
    if row.reason == 'it ran to its end' then row.reason = nil end
    if row.worker ~= '' and row.decided_by == 'worker ' .. (row.worker or '') then row.decided_by = nil end
    local function ms(text)
        local number = tonumber(text or '')
        return number and number >= 0 and number < 1e11 and math.floor(number * 1000 + 0.5) or nil
    end
    local queued, started, ended = ms(row.queued_at), ms(row.started_at), ms(row.ended_at)
    local tick, pid = ms(row.tick or '0'), string.match(row.pid or '', '^%d+$')
    if not (queued and started and ended and tick and pid) then return end
    local begins, ending = (row.host or '') .. '.' .. pid .. '.', '-'
    if row.worker and string.sub(row.worker, 1, #begins) == begins then
        ending = string.match(string.sub(row.worker, #begins + 1), '^%w+$') or '-'
    end
    local function word(number) return number and string.format('%d', number) or '-' end
    local rss = string.match(row.max_rss_kib or '', '^%d+$') or '-'
    local last = ending  -- beside the name: releases before ignore facts of nine words
    if ending ~= '-' and string.match(row.start_ms or '', '^%d+$') then
        last, row.start_ms = ending .. '+' .. row.start_ms, nil
    end
    row.facts = table.concat({pid, word(queued - tick), word(started - queued), word(ended - started), rss,
        word(ms(row.user_s)), word(ms(row.system_s)), last}, ' ')
    if rss ~= '-' and row.exit_code == '0' then row.exit_code = nil end
    row.queued_at, row.started_at, row.ended_at, row.pid = nil, nil, nil, nil
    row.max_rss_kib, row.user_s, row.system_s = nil, nil, nil
    if ending ~= '-' then row.worker = nil end
end
