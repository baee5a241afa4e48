-- Compares delayed runs with rq-scheduler's store, where others may have moved, served or removed them.
--
-- KEYS  1 delayed   2 rq:scheduler:scheduled_jobs   3 events
-- ARGV  1 prefix   2 events to keep   3… run ids
-- Returns the ids of those that were removed from the store and queued by nobody: their time will never come.
--
-- One step, because a run that is served between two looks would seem to be gone.
--@ event
--@ open_set
--@ rq
--@ types

local call = redis.call
local wrong = wrong_type({KEYS[1], 'zset'})
if wrong then return redis.error_reply('WRONGTYPE ' .. wrong) end
local gone = {}
for i = 3, #ARGV do
    local id = ARGV[i]
    local run = ARGV[1] .. ':run:' .. id
    local due = call('ZSCORE', KEYS[2], id)
    local row = redis.pcall('HMGET', run, 'state', 'job')
    if row.err or row[1] ~= 'waiting' then
        call('ZREM', KEYS[1], id)
    elseif due then
        call('ZADD', KEYS[1], due, id)  -- rq-scheduler's change_execution_time knows nothing of us
    else
        local status = redis.pcall('HGET', RQ .. 'job:' .. id, 'status')
        local active = open_set(ARGV[1], row[2], id)
        if status == 'queued' and fits(active, 'hash') then  -- a stock rqscheduler was faster
            call('HSET', run, 'state', 'queued')
            call('HSET', active, id, 'queued')
            call('ZREM', KEYS[1], id)
            try_event(KEYS[3], ARGV[2], 'queued', row[2] or '', id)
        else
            gone[#gone + 1] = id
        end
    end
end
return gone
