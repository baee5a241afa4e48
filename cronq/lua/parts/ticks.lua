--@ event
--@ rq
--@ trim
-- Part of claim: writes a new tick of a job into the ledger, and its run into RQ's keys.
--
-- *from* is who claims and when: {prefix, by, now, stamp, row_ttl, events, stream: the key of events, pushed: queue ->
-- ids that are pushed when the script ends, asked: whether a person decided it}. *new* is the tick: {job: its name, id:
-- of the run, tick: text, description: of the RQ job, queue, trigger, keep: rows, key: of the job, row, active, index,
-- hash: further keys, known: rows that the job has}. They are handed on as they are: in a second a busy beat has tens
-- of thousands.

local function list_row(from, new)
    redis.call('ZADD', new.index, new.tick, new.id)
    if new.known >= new.keep then trim(from.prefix .. ':run:', new.index, new.active, new.keep) end
end

-- Records that *new* does not run. *range*: [oldest tick, count, mark it begins after, schedule], or nothing; *cause*:
-- what the outcome does not say, as runs/cause reads it, or nothing. The words of an overlap follow from that.
local function record_outcome(from, new, outcome, reason, range, cause)
    redis.call('HSET', new.row, 'job', new.job, 'tick', new.tick, 'state', 'done', 'decided_by', from.by,
        'outcome', outcome, 'ended_at', from.now)
    if cause then redis.call('HSET', new.row, 'cause', cause) end
    if not cause or string.sub(cause, 1, 8) ~= 'overlap ' then redis.call('HSET', new.row, 'reason', reason) end
    if new.trigger ~= 'schedule' then redis.call('HSET', new.row, 'trigger', new.trigger) end
    if new.queue ~= 'default' then redis.call('HSET', new.row, 'queue', new.queue) end
    if range then redis.call('HSET', new.row, 'first', range[1], 'count', range[2], 'schedule', range[4]) end
    redis.call('EXPIRE', new.row, from.row_ttl)
    event(from.stream, from.events, outcome, new.job, new.id, from.asked and from.by)
    list_row(from, new)
end

-- Returns the template of the job *key* when no run in *queue* can be made from it, and the type that it should have,
-- "" when it has it; else nil.
local function bad_template(key, queue)
    local template = key .. ':template'
    local needed = redis.pcall('HMGET', template, 'data', 'origin', 'timeout')
    if needed.err then return template, 'hash' end
    if not needed[1] or needed[2] ~= queue or not needed[3] then return template, '' end
    return nil
end

-- Records the run of *new*: queued, or waiting; *cause* as above.
local function open_tick(from, new, is_waiting, reason, cause)
    local call, row, id, hash = redis.call, new.row, new.id, new.hash
    if is_waiting then
        call('HSET', row, 'job', new.job, 'tick', new.tick, 'state', 'waiting', 'trigger', new.trigger,
            'queue', new.queue, 'decided_by', from.by)
    else
        call('HSET', row, 'job', new.job, 'tick', new.tick, 'state', 'queued', 'trigger', new.trigger,
            'queue', new.queue, 'queued_at', from.now, 'decided_by', from.by)
    end
    if reason then call('HSET', row, 'reason', reason) end
    if cause then call('HSET', row, 'cause', cause) end
    list_row(from, new)
    event(from.stream, from.events, is_waiting and 'parked' or 'queued', new.job, id)
    call('COPY', new.key .. ':template', hash, 'REPLACE')  -- whatever stands there: the id is this run's alone
    call('HSET', hash, 'created_at', from.stamp, 'enqueued_at', from.stamp, 'description', new.description)
    if is_waiting then call('HSET', hash, 'status', 'deferred') end
    call('HSET', new.active, id, is_waiting and 'waiting' or 'queued')
end

-- Has the run of *new* pushed when the script ends.
local function line_up(from, new)
    local ids = from.pushed[new.queue]
    if ids then ids[#ids + 1] = new.id else from.pushed[new.queue] = {new.id} end
end
