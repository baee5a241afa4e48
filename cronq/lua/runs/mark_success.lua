-- Gives a tick that has ended the outcome `succeeded`, because a person says so.
--
-- KEYS  1 run:{id}   2 job:{name}   3 job:{name}:state   4 job:{name}:runs   5 events   6 rq:job:{id}
-- ARGV  1 JSON {prefix, name, run, tick, reason, by, now, stamp, row_ttl, events,
--               was: {outcome, reason, decided_by, ended_at}}
--       was: what became of a tick that shares the row of a range, and so has none of its own yet; else absent
-- Returns marked | same (it has succeeded already) | open <state> | gone (no such row, or no such job)
--       | broken <key> (a wrong type); of the last four nothing was written
--
-- One step, because a run that is requeued between two looks would run while its row says that it has succeeded.
--@ event
--@ in_order
--@ keep_attempt
--@ open_gates
--@ trigger
--@ types

local item = cjson.decode(ARGV[1])
local call, run, state = redis.call, KEYS[1], KEYS[3]
local _, wrong = wrong_type({run, 'hash', KEYS[2], 'hash', state, 'hash', KEYS[4], 'zset', KEYS[5], 'stream', KEYS[6],
    'hash'})
if wrong then return 'broken ' .. wrong end
if call('EXISTS', KEYS[2]) == 0 then return 'gone' end
local row = call('HMGET', run, 'state', 'outcome', 'attempt', 'decided_by', 'ended_at')
if not row[1] and not item.was then return 'gone' end
if row[1] and row[1] ~= 'done' then return 'open ' .. row[1] end
if row[1] and call('HGET', KEYS[6], 'status') == 'queued' then return 'open queued' end
if row[2] == 'succeeded' then  -- perhaps by this very call, whose reply was lost
    return row[4] == item.by and row[5] == item.now and 'marked' or 'same'
end

if not row[1] then
    call('HSET', run, 'job', item.name, 'tick', item.tick, 'outcome', item.was.outcome, 'reason', item.was.reason,
        'decided_by', item.was.decided_by, 'ended_at', item.was.ended_at)
    if item.was.cause then call('HSET', run, 'cause', item.was.cause) end
    call('ZADD', KEYS[4], item.tick, item.run)
end
local attempt = tonumber(row[3] or '') or 1
keep_attempt(run, attempt)
call('HDEL', run, 'started_at', 'host', 'pid', 'worker', 'execution', 'queued_at')
call('HSET', run, 'state', 'done', 'attempt', attempt + 1, 'outcome', 'succeeded', 'reason', item.reason,
    'decided_by', item.by, 'ended_at', item.now)
call('EXPIRE', run, item.row_ttl)

local known = call('HMGET', state, 'streak', 'last_tick', 'success_tick')
local tick = tonumber(item.tick)
if (tonumber(known[1] or '') or 0) < 0 then call('HSET', state, 'streak', '0') end
call('HDEL', state, 'resumed_at_streak')
if tick >= (tonumber(known[2] or '') or 0) then
    call('HSET', state, 'last_run', item.run, 'last_outcome', 'succeeded', 'last_ended', item.now,
        'last_tick', item.tick)
end
if tick > (tonumber(known[3] or '') or 0) then call('HSET', state, 'success_tick', item.tick) end
event(KEYS[5], item.events, 'succeeded', item.name, item.run, item.by)
let_go_on(item.prefix, KEYS[2], item.name, item.run, item.now)
pcall(open_gates, item, item.name)  -- a beat tries again what cannot be queued now
pcall(trigger_children, item, item.name, item.run, 'succeeded')
return 'marked'
