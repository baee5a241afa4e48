-- Notes that a run is alive, and tells its guardian whether it was asked to stop or has been settled.
--
-- KEYS  1 running   2 stop:{id}   3 run:{id}   4 rq:wip:{queue}   5 rq:execution:{id}:{execution}   6 rq:job:{id}
--       and of a slow run also   7 events   8 job:{name}:state
-- ARGV  1 run id   2 now (epoch seconds)   3 execution id   4 life of RQ's records (seconds)   5 attempt
--       6 now as RQ writes times   7 when it counts as heard of; "" for this moment by the server's own clock, which
--       no delay of a reply and no doubt about a jump can make older than it is
--       and of a run that takes longer than its job's warn_after also   8 job   9 events to keep. It is told of once in
--       an attempt, however often this is sent.
-- Returns "" to go on, "stop <by>" when a person asked, "settled" when the run is no longer this attempt's, "forgotten"
--         when it is queued in this attempt: Redis came back without its last second, and it is to be started again.
--         A run without a row goes on: Redis came back empty, and nobody else can be working on it. So does one that
--         a beat called lost while its guardian was cut off: its outcome will replace that.
--
-- One step, because a renewal after the run was settled would bring a dead run back into `running`.
--@ event
--@ rq

local row = redis.call('HMGET', KEYS[3], 'state', 'attempt', 'outcome', 'execution', 'slow')
if not row[1] then return '' end
if row[1] == 'done' and row[2] == ARGV[5] and row[3] == 'lost' and row[4] == ARGV[3] then return '' end
if row[1] == 'queued' and (row[2] or '1') == ARGV[5] and not row[4] then return 'forgotten' end
if row[1] ~= 'running' or row[2] ~= ARGV[5] then return 'settled' end
if row[4] and row[4] ~= ARGV[3] then return 'settled' end  -- Redis had forgotten its start, and another began it
local seen = ARGV[7]
if seen == '' then
    local time = redis.call('TIME')
    seen = time[1] .. '.' .. string.format('%06d', time[2])
end
redis.call('ZADD', KEYS[1], seen, ARGV[1])
-- RQ's own records follow, as far as they can: should one be of a wrong type, the run goes on, and hears who asks it to
-- stop.
local try = redis.pcall
local ends, executions = math.floor(tonumber(ARGV[2]) + tonumber(ARGV[4])), RQ .. 'executions:' .. ARGV[1]
try('ZADD', KEYS[4], 'XX', ends, ARGV[1] .. ':' .. ARGV[3])
if redis.call('EXISTS', KEYS[5]) == 1 then
    try('HSET', KEYS[5], 'last_heartbeat', ARGV[2])
    redis.call('EXPIRE', KEYS[5], ARGV[4])
    try('ZADD', executions, 'XX', ends + 60, ARGV[3])
    redis.call('EXPIRE', executions, ARGV[4] + 60)
end
if redis.call('EXISTS', KEYS[6]) == 1 then try('HSET', KEYS[6], 'last_heartbeat', ARGV[6]) end
if ARGV[8] and row[5] ~= ARGV[5] then
    redis.call('HSET', KEYS[3], 'slow', ARGV[5])
    try('HSET', KEYS[8], 'slow', ARGV[1])
    try_event(KEYS[7], ARGV[9], 'slow', ARGV[8], ARGV[1])
end
local by = try('GET', KEYS[2])
return type(by) == 'string' and ('stop ' .. by) or ''
