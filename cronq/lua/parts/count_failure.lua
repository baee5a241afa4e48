--@ event
--@ note_change
-- Part of settle. Notes in *state* that the job whose key is *job* has failed once more, so that its streak is *streak*
-- (below zero), and pauses it when those are as many failures in a row as its spec allows; failures before it was
-- resumed do not count. A pause that stands already stays. A beat that decided before meets the pause in runs/claim;
-- the job's version stays as it is, because workers need not be allowed to write jobs.
local function count_failure(job, state, streak, item)
    if not fits(state, 'hash') then return end
    redis.call('HSET', state, 'streak', streak)
    if streak == -1 then redis.call('HDEL', state, 'resumed_at_streak') end
    local most = redis.pcall('HGET', job, 'pause_after_failures')
    most = type(most) == 'string' and tonumber(most)
    if not most then return end
    local held = redis.call('HMGET', state, 'resumed_at_streak', 'pause')
    local failures = (tonumber(held[1] or '') or 0) - streak
    if failures < most then return end
    if held[2] then
        local fine, pause = pcall(cjson.decode, held[2])
        local ends = fine and type(pause) == 'table' and tonumber(pause['until'])
        if not ends or ends > tonumber(item.now) then return end
    end
    local note = string.format('paused after %d failure%s in a row', failures, failures == 1 and '' or 's')
    redis.call('HSET', state, 'pause', cjson.encode({since = tonumber(item.now), by = 'cronq', note = note}))
    try_event(item.prefix .. ':events', item.events, 'job_paused', item.job, nil, 'cronq')
    -- Protected, for a user of Redis who may not write there.
    pcall(note_change, job .. ':changes', 'job_paused', {by = 'cronq', at = tonumber(item.now), words = note})
end
