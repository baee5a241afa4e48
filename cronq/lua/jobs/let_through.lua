-- Lets held runs through, from the head of the catch-up line on, as many as the rate of all beats together allows: each
-- job is due again, and the beat that reads it next claims the run.
--
-- KEYS  1 catchup (ZSET)   2 agenda (ZSET)   3 catchup-rate (HASH)
-- ARGV  1 prefix   2 runs a second, 0: without a limit   3 how many at once when none came for a while   4 most in this
--         call   5 epoch seconds to use as now, or "" for the server's own time
-- Returns {how many were let through, how many are left, the seconds until the next may follow}
--
-- What stands in the line although its tick was decided meanwhile, or its job is gone, is taken out for nothing. A call
-- looks at 500 places at most, for Redis answers nobody meanwhile; the next one goes on there.
--
-- One step, because ten beats share the rate, and a run that is neither in the line nor on the agenda would wait for
-- the next tick of its job.
--@ types

local call, try, format = redis.call, redis.pcall, string.format
local catchup, agenda, pace = KEYS[1], KEYS[2], KEYS[3]
local wrong = wrong_type({catchup, 'zset', agenda, 'zset', pace, 'hash'})
if wrong then return redis.error_reply('WRONGTYPE ' .. wrong) end
local rate, burst, most = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local time = call('TIME')
local now = ARGV[5] ~= '' and tonumber(ARGV[5]) or (tonumber(time[1]) + tonumber(time[2]) / 1000000)

-- How many may go is what a bucket holds that fills at the rate: known by the moment at which it will be full.
local full, is_too_late = now, false
if rate > 0 then
    full = math.max(now, tonumber(call('HGET', pace, 'full_at') or '') or 0)
    is_too_late = full > now + burst / rate + 0.001  -- the clock was set back, or the rate is another one now
    if is_too_late then full = now + burst / rate end
    most = math.min(most, math.floor(burst - (full - now) * rate + 0.000001))
end
local through, looked = 0, 0
while through < most and looked < 500 do
    looked = looked + 1
    local head = call('ZRANGE', catchup, 0, 0)[1]
    if not head then break end
    local name, tick = string.match(head, '^(.*):(%d+)$')
    local state = name and try('HMGET', ARGV[1] .. ':job:' .. name .. ':state', 'mark', 'through') or {err = ''}
    local instant, mark = tonumber(tick or ''), not state.err and tonumber(state[1] or '')
    call('ZREM', catchup, head)
    if instant and mark and mark < instant then
        if instant > (tonumber(state[2] or '') or 0) then
            call('HSET', ARGV[1] .. ':job:' .. name .. ':state', 'through', tick)
            through = through + 1
        end
        local score = call('ZSCORE', agenda, name)
        if not score or tonumber(score) > instant then call('ZADD', agenda, tick, name) end
    end
end
local left, wait = call('ZCARD', catchup), 0
if rate > 0 then
    if through > 0 or is_too_late then
        full = full + through / rate
        call('HSET', pace, 'full_at', format('%.6f', full), 'rate', ARGV[2])
        call('EXPIRE', pace, 86400)
    end
    wait = math.max(0, (1 - burst) / rate + full - now)
end
return {through, left, format('%.6f', wait)}
