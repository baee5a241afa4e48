-- Notes that a beat made a completed pass, and the outage that this pass ended, if there was one.
--
-- KEYS  1 passes (STRING)   2 outages (LIST)
-- ARGV  1 when the pass was (epoch seconds)   2 a gap longer than this is an outage (seconds)   3 who made the pass
--       4 the first pass of this beat (epoch seconds)   5 since when Redis was away for this beat, or ""
--       6 "1" when this beat held since its last pass, because the server's clock jumped, else ""
--       7 how long outages are kept (seconds)   8 how many are kept
-- Returns "" | why the outage that was noted, or noted better, had come: no_beat, redis_away, clock_jumped, stood_still
--
-- One step, because several beats come back at once: the first of them notes the outage, and one that lived through it
-- says better why it was, than one that was started to end it.
--@ refusal
--@ types

local now, by = tonumber(ARGV[1]), ARGV[3]
local wrong = wrong_type({KEYS[1], 'string', KEYS[2], 'list'})
if wrong then return redis.error_reply('WRONGTYPE ' .. wrong) end
local last = tonumber(redis.call('GET', KEYS[1]) or '')

local function why(from)
    local away = tonumber(ARGV[5])
    if away and away <= now then return 'redis_away' end
    if tonumber(ARGV[4]) > from + tonumber(ARGV[2]) then return 'no_beat' end
    return ARGV[6] == '1' and 'clock_jumped' or 'stood_still'
end

local function entry(from, to, cause)
    return cjson.encode({from = string.format('%.3f', from), to = string.format('%.3f', to), why = cause, by = by})
end

if not last or now > last then
    local set = redis.pcall('SET', KEYS[1], ARGV[1])
    if set.err then return redis.error_reply(refusal(set.err) or set.err) end
end
local noted = ''
if last and now - last > tonumber(ARGV[2]) then
    noted = why(last)
    redis.call('LPUSH', KEYS[2], entry(last, now, noted))
    redis.call('LTRIM', KEYS[2], 0, tonumber(ARGV[8]) - 1)
    redis.call('EXPIRE', KEYS[2], ARGV[7])
elseif ARGV[5] ~= '' then
    local fine, newest = pcall(cjson.decode, redis.call('LINDEX', KEYS[2], 0) or '')
    if fine and type(newest) == 'table' and newest.why ~= 'redis_away' then
        local from, to = tonumber(newest.from), tonumber(newest.to)
        if from and to and tonumber(ARGV[5]) < to and now - to < 60 then
            noted = 'redis_away'
            redis.call('LSET', KEYS[2], 0, entry(from, to, noted))
        end
    end
end
return noted
