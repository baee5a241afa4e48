--@ types
-- Part of enqueue, delay and readmit, whose first keys are the row of the run, `manual` and `given` of its job, and
-- the RQ job.

-- Returns why a run cannot be made: a key is of a wrong type (*others*: those besides the first four), its job is
-- gone, or it is there already; nil when nothing stands in the way. The key of the job is only read, so it is none of
-- KEYS: those must be open for writing to who calls, and who may queue runs need not define jobs.
local function why_not(item, others)
    local job = item.prefix .. ':job:' .. item.name
    local _, wrong = wrong_type({job, 'hash', KEYS[1], 'hash', KEYS[2], 'zset', KEYS[3], 'hash', KEYS[4], 'hash',
        unpack(others)})
    if wrong then return 'broken ' .. wrong end
    if redis.call('EXISTS', job) == 0 then return 'gone' end
    local token = redis.call('HGET', KEYS[1], 'token')
    if token and token == item.token then return 'mine' end
    if redis.call('EXISTS', KEYS[1]) == 1 then return 'taken' end
    return nil
end

-- Writes the row of a run without a tick, and lists it in its job: by *score*, and among those that are open.
local function new_row(item, state, score)
    local row = {'job', item.name, 'state', state, 'trigger', item.trigger, 'queue', item.queue, 'decided_by', item.by}
    for _, field in ipairs({'token', 'reason', 'args', 'queued_at'}) do
        if item[field] then
            row[#row + 1] = field
            row[#row + 1] = item[field]
        end
    end
    redis.call('HSET', KEYS[1], unpack(row))
    redis.call('ZADD', KEYS[2], score, item.run)
    redis.call('HSET', KEYS[3], item.run, state)
end

-- Writes the RQ job of a new run, whose fields are given from the second argument on.
local function new_rq_job()
    redis.call('DEL', KEYS[4])
    redis.call('HSET', KEYS[4], unpack(ARGV, 2))
end
