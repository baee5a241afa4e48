-- Queues many runs of one job that have no tick: for each what runs/enqueue does for one.
--
-- KEYS  1 job:{name}:manual   2 job:{name}:given   3 rq:queue:{queue}   4 rq:queues   5 events
-- ARGV  1 JSON {prefix, name, queue, token, by, now, events, keep, reason, runs: [[run id, args]…], common}
--         args: arguments as JSON text, false: the job's own   common: how many of the arguments below all runs share
--       2… field, value, … of every RQ job, *common* of them; then for each run its own two: description, data
-- Returns won | mine (queued by an earlier call with the same token, whose reply was lost)
--       | taken <number> (the run of that number, from 1, has the id of another)
--       | gone (no such job) | broken <key> (a wrong type); of these nothing was written
--
-- One step, because whoever asks for many and is told of an error must know that none of them is queued. Whoever calls
-- it hands over some hundred runs at once: Redis answers nobody else meanwhile.
--@ event
--@ push
--@ rq
--@ trim
--@ types

local item = cjson.decode(ARGV[1])
local call, rows, job = redis.call, item.prefix .. ':run:', item.prefix .. ':job:' .. item.name
local _, wrong = wrong_type({job, 'hash', KEYS[1], 'zset', KEYS[2], 'hash', KEYS[3], 'list', KEYS[4], 'set', KEYS[5],
    'stream'})
if wrong then return 'broken ' .. wrong end
if call('EXISTS', job) == 0 then return 'gone' end
for i, each in ipairs(item.runs) do
    local row, hash = rows .. each[1], RQ .. 'job:' .. each[1]
    _, wrong = wrong_type({row, 'hash', hash, 'hash'})
    if wrong then return 'broken ' .. wrong end
    if call('HGET', row, 'token') == item.token then return 'mine' end
    if call('EXISTS', row, hash) > 0 then return 'taken ' .. i end
end

local common, ids, scores, states = {unpack(ARGV, 2, item.common + 1)}, {}, {}, {}
local size = #common
for i, each in ipairs(item.runs) do
    local id, args = each[1], each[2]
    local row = {'job', item.name, 'state', 'queued', 'trigger', 'manual', 'queue', item.queue, 'decided_by', item.by,
        'token', item.token, 'reason', item.reason, 'queued_at', item.now}
    if args then
        row[#row + 1] = 'args'
        row[#row + 1] = args
    end
    call('HSET', rows .. id, unpack(row))
    local own = item.common + 2 * i
    common[size + 1], common[size + 2] = 'description', ARGV[own]
    common[size + 3], common[size + 4] = 'data', ARGV[own + 1]
    call('HSET', RQ .. 'job:' .. id, unpack(common))
    event(KEYS[5], item.events, 'queued', item.name, id, item.by)
    ids[i], scores[2 * i - 1], scores[2 * i], states[2 * i - 1], states[2 * i] = id, item.now, id, id, 'queued'
end
call('ZADD', KEYS[1], unpack(scores))
call('HSET', KEYS[2], unpack(states))
push(item.prefix, item.queue, 'RPUSH', ids)
trim(rows, KEYS[1], KEYS[2], item.keep)
return 'won'
