-- Rejects an id that was popped and must not run: takes it out of the intermediate list, and notes the reason.
--
-- KEYS  none (all are built from the id: one Redis, no Cluster)
-- ARGV  1 JSON {prefix, queue, reason, by, now, stamp, life, most, events, note, results: {field, value, …}}
--       life: seconds of RQ's records   most: entries to keep in `refused`   note: absent for a stray id, of which
--       the ledger knows enough   results: what RQ's result stream gets
--       2 the id (binary, so not in the JSON)
-- Returns failed (its RQ job was queued, and is in RQ's failed registry now) | gone (nothing of it was queued)
--         | left (it was not in the intermediate list any more: somebody else has it, and nothing was written)
--
-- One step, because an id that is no longer popped and not yet noted would vanish without a word.
--@ event
--@ keep_result
--@ rq
--@ types

local item, id = cjson.decode(ARGV[1]), ARGV[2]
local call = redis.call
local hash, registry = RQ .. 'job:' .. id, RQ .. 'failed:' .. item.queue
local popped, refused = RQ .. 'queue:' .. item.queue .. ':intermediate', item.prefix .. ':refused'
if not fits(popped, 'list') or call('LREM', popped, 0, id) == 0 then return 'left' end
-- RQ's words for jobs of which an id in a queue is a stray one.
local not_queued = {started = 1, finished = 1, failed = 1, stopped = 1, canceled = 1}
local is_open = call('TYPE', hash).ok == 'hash' and fits(registry, 'zset')
    and not not_queued[call('HGET', hash, 'status') or '']
if is_open then
    call('HSET', hash, 'status', 'failed', 'ended_at', item.stamp)
    call('EXPIRE', hash, item.life)
    call('ZADD', registry, math.floor(tonumber(item.now)) + item.life, id)
    if item.results then keep_result(id, item.results, item.life) end
end
if item.note and fits(refused, 'stream') then
    call('XADD', refused, 'MAXLEN', '~', item.most, '*', 'id', id, 'queue', item.queue, 'reason', item.reason,
        'by', item.by, 'at', item.now)
end
if item.note then try_event(item.prefix .. ':events', item.events, 'refused', '', id) end
return is_open and 'failed' or 'gone'
