-- Reruns a run whose worker vanished or is leaving: it is queued at the head of its queue, as its next attempt.
--
-- KEYS  none (all are built from the run: one Redis, no Cluster)
-- ARGV  1 JSON {prefix, run, job, queue, attempt, execution, unseen_since, reason, by, now, stamp, events, most}
--       attempt, execution: the ones it must be in, or absent   unseen_since: only when its last heartbeat is older
--       most: this counts as a crash, and with so many it is not rerun; absent: it is no crash
-- Returns queued
--       | again      the first answer was lost: an earlier call has rerun this very attempt
--       | spent <n>  it has crashed n times now: nothing was written, settle it
--       | asked <by> somebody asked it to stop: nothing was written, settle it
--       | stale      it is no longer running in that attempt: somebody else was first
--       | unable <why> it cannot be queued (its RQ job is gone, a key has a wrong type): nothing was written
--
-- One step, because a run that is both running and queued would be run twice, and one that is neither is lost.
--@ event
--@ keep_attempt
--@ open_set
--@ push
--@ rq
--@ types

local item = cjson.decode(ARGV[1])
local call = redis.call
local run = item.prefix .. ':run:' .. item.run
local active = open_set(item.prefix, item.job, item.run)
local running = item.prefix .. ':running'
local events = item.prefix .. ':events'
local stop = item.prefix .. ':stop:' .. item.run
local hash, wip, queue = RQ .. 'job:' .. item.run, RQ .. 'wip:' .. item.queue, RQ .. 'queue:' .. item.queue
local wrong = wrong_type({run, 'hash', active, 'hash', running, 'zset', hash, 'hash', queue, 'list', events, 'stream',
    wip, 'zset', RQ .. 'queues', 'set', queue .. ':intermediate', 'list', stop, 'string'})
if wrong then return 'unable ' .. wrong end
local row = call('HMGET', run, 'state', 'attempt', 'crashes', 'put_back', 'execution', 'retried', 'snoozed_since',
    'slow')
if item.execution and row[4] == item.execution then return 'again' end
local attempt = tonumber(row[2] or '') or 1
if row[1] ~= 'running' or (item.attempt and attempt ~= item.attempt) then return 'stale' end
if item.execution and row[5] and row[5] ~= item.execution then return 'stale' end
if item.unseen_since then
    local seen = call('ZSCORE', running, item.run)
    if seen and tonumber(seen) > tonumber(item.unseen_since) then return 'stale' end
end
local asked = call('GET', stop)
if asked then return 'asked ' .. asked end
local crashes = (tonumber(row[3] or '') or 0) + (item.most and 1 or 0)
if item.most and crashes >= item.most then return 'spent ' .. crashes end
if call('EXISTS', hash) == 0 then return 'unable its RQ job is gone' end

call('HSET', run, 'outcome', 'lost', 'reason', item.reason, 'decided_by', item.by, 'ended_at', item.now)
keep_attempt(run, attempt)
call('HSET', run, 'state', 'queued', 'attempt', attempt + 1, 'crashes', crashes, 'reason', item.reason,
    'decided_by', item.by, 'queued_at', item.now)
call('HDEL', run, 'started_at', 'pid', 'worker', 'host', 'execution')
if item.execution then call('HSET', run, 'put_back', item.execution) end
if row[6] then call('HSET', run, 'retried', row[6]) end
if row[7] then call('HSET', run, 'snoozed_since', row[7]) end
local state = item.prefix .. ':job:' .. item.job .. ':state'
if row[8] and redis.pcall('HGET', state, 'slow') == item.run then call('HDEL', state, 'slow') end
call('HSET', active, item.run, 'queued')
call('ZREM', running, item.run)
for _, entry in ipairs(call('ZRANGE', wip, 0, -1)) do
    if string.sub(entry, 1, #item.run + 1) == item.run .. ':' then
        call('ZREM', wip, entry)
        call('DEL', RQ .. 'execution:' .. entry)
    end
end
call('DEL', RQ .. 'executions:' .. item.run)
call('HSET', hash, 'status', 'queued', 'enqueued_at', item.stamp, 'started_at', '', 'worker_name', '')
call('LREM', queue .. ':intermediate', 0, item.run)
push(item.prefix, item.queue, 'LPUSH', {item.run})
event(events, item.events, 'rerun', item.job, item.run)
return 'queued'
