-- Reads what a pass of the beat needs: the server's time, the epoch, and the jobs whose next tick has come.
--
-- KEYS  1 agenda (ZSET)   2 epoch (STRING)   3 calendars (HASH)   4 retries (ZSET)   5 catchup (ZSET)
--       6 beats (HASH)
-- ARGV  1 prefix   2 most jobs to return   3 epoch seconds to use as now, or "" for the server's own time
--       4 "1" to look at the stores of scheduled jobs as well, else ""
--       5 newest layout of a spec the caller knows   6 how many of the most overdue jobs are not to be looked at
--       7 where to begin among jobs that are due at the very same time, 0 to 1: of their number
-- Returns two texts. The due jobs, a line each, the most overdue first: `name version mark` when no more is to be said
--       of the job, as of nearly all; else JSON [name, version, mark, pause, ticks, skips, held, through], in which
--       absent values are "". A job whose keys have a wrong type comes with version "!".
--       JSON {time, epoch, newer, cut, listed, next, retries, calendars, held, beats}
--       newer: how many due jobs were passed by because their spec has a newer layout: an older process leaves them
--         alone, and they must not take the places of others
--       cut: more may be due than was looked at   listed: how many jobs are on the agenda, due or not
--       next: the first agenda score after now   delayed: the first score, due or not, and the first after now, in
--         rq-scheduler's store and RQ's registries of scheduled jobs; one that cannot be read does not count
--       retries: the same of the runs that wait for their next attempt
--       beats: how many have a heartbeat, perhaps an old one
--       calendars: their version, another one whenever any of them has changed
--       held of a job: up to which of its ticks late runs are held (jobs/hold), through: up to which they were let
--         through; held of all: how many stand in the catch-up line
--
-- One step, because the time, the agenda and the marks have to be of one moment: a mark read later than the
-- time would make a tick look claimed that was not, and the other way round.
--@ rq

local time = redis.call('TIME')
local now = ARGV[3] ~= '' and tonumber(ARGV[3]) or (tonumber(time[1]) + tonumber(time[2]) / 1000000)
local most, knows, rank = tonumber(ARGV[2]), tonumber(ARGV[5]), tonumber(ARGV[6])
local due, newer, is_cut = {}, 0, false
local function read(name)
    local job = ARGV[1] .. ':job:' .. name
    local known = redis.pcall('HMGET', job, 'version', 'layout')
    if not known.err and known[2] and (tonumber(known[2]) or 1) > knows then
        newer = newer + 1
        return
    end
    local state = redis.pcall('HMGET', job .. ':state', 'mark', 'pause', 'ticks', 'skips', 'held', 'through')
    if known.err or state.err then
        due[#due + 1] = cjson.encode({name, '!', '', '', '', '', '', ''})
        return
    end
    local mark, pause, ticks, skips, held, through = unpack(state)
    local line = name .. ' ' .. (known[1] or '') .. ' ' .. (mark or '')
    if pause or ticks or skips or held or through or not string.find(line, '^[%w_-]+ %w+ %d+$') then
        line = cjson.encode({name, known[1] or '', mark or '', pause or '', ticks or '', skips or '', held or '',
            through or ''})
    end
    due[#due + 1] = line
end
-- Where all of them are due at the same time, the order of their names is an accident: then beats begin at different
-- places, and share a burst where they would have run after each other through it.
local function turned(found)
    local share = tonumber(ARGV[7])
    if share <= 0 or rank > 0 or #found < 2 then return found end
    local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
    if redis.call('ZCOUNT', KEYS[1], first, first) < #found then return found end
    local begin, order = math.floor(share * #found), {}
    for i = 1, #found do order[i] = found[(begin + i - 1) % #found + 1] end
    return order
end
for _ = 1, 5 do  -- jobs to be passed by are cheap to look at, and bounded all the same
    local wanted = most - #due
    local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', rank, wanted)
    for _, name in ipairs(turned(found)) do read(name) end
    rank = rank + #found
    is_cut = #found == wanted
    if not is_cut or #due == most then break end
end
local past_now = '(' .. string.format('%.6f', now)
local after = redis.call('ZRANGEBYSCORE', KEYS[1], past_now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
-- Writes into *found*, {first score, due or not, first one after now}, what is sooner in *key*.
local function look(key, found)
    local soonest = redis.pcall('ZRANGE', key, 0, 0, 'WITHSCORES')
    if soonest.err or not soonest[2] then return end
    if found[1] == '' or tonumber(soonest[2]) < tonumber(found[1]) then found[1] = soonest[2] end
    local later = soonest
    if tonumber(soonest[2]) <= now then
        later = redis.pcall('ZRANGEBYSCORE', key, past_now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    end
    if later[2] and (found[2] == '' or tonumber(later[2]) < tonumber(found[2])) then found[2] = later[2] end
end
local delayed, retries = {'', ''}, {'', ''}
look(KEYS[4], retries)
if ARGV[4] == '1' then
    look('rq:scheduler:scheduled_jobs', delayed)
    local queues = redis.pcall('SMEMBERS', RQ .. 'queues')
    for _, queue in ipairs(queues.err and {} or queues) do
        look(RQ .. 'scheduled:' .. string.sub(queue, #RQ + 7), delayed)  -- what follows `queue:`
    end
end
local epoch = redis.pcall('GET', KEYS[2])
if type(epoch) == 'table' then epoch = '' end
local calendars = redis.pcall('HGET', KEYS[3], ':version')
if type(calendars) == 'table' then calendars = '!' end
local beats = redis.pcall('HLEN', KEYS[6])
if type(beats) == 'table' then beats = 1 end
return {table.concat(due, '\n'), cjson.encode({
    time = string.format('%.6f', now),
    server = time[1] .. '.' .. string.format('%06d', tonumber(time[2])),
    epoch = epoch or '',
    newer = newer,
    cut = is_cut,
    listed = redis.call('ZCARD', KEYS[1]),
    next = after[2] or '',
    delayed = delayed,
    retries = retries,
    calendars = calendars or '',
    held = redis.call('ZCARD', KEYS[5]),
    beats = beats,
})}
