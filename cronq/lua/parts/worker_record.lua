--@ rq
-- Part of settle_and_take and undo_start: RQ's own record of a worker, as RQ's code writes it. `cronq_offer` is ours:
-- the number of the newest offer of that worker that was written there.

-- Returns what this script has to know of the record of *worker*. One of a wrong type is left as it is.
local function read_record(worker)
    local key = RQ .. 'worker:' .. worker
    local known = redis.pcall('HMGET', key, 'current_job', 'total_working_time', 'successful_job_count',
        'failed_job_count', 'cronq_offer')
    if known.err then return {} end
    return {key = key, current = known[1] or nil, worked = known[2], succeeded = known[3], failed = known[4],
        newest = tonumber(known[5] or '') or 0, fields = {}, was = known[1] or nil}
end

-- The figure in a text; 0 for what RQ could not read either.
local function figure(text)
    local found = tonumber(text or '')
    return found and found >= 0 and found < 2 ^ 53 and found or 0
end

-- Counts the end of the run of *item*, and how long the worker was busy with it.
local function count_end(record, item, is_good)
    local fields = record.fields
    fields.total_working_time = string.format('%.17g', figure(record.worked) + item.worked)
    local name = is_good and 'succeeded' or 'failed'
    if not is_good and item.retry and item.retry.snooze then return end  -- no failure, and no end
    fields[is_good and 'successful_job_count' or 'failed_job_count'] =
        string.format('%.0f', figure(record[name]) + 1)
end

-- The run that the worker has from now on; nil: none.
local function set_current(record, run)
    record.current = run
    record.fields.state = run and 'busy' or 'idle'
    record.fields.current_job = run
end

-- Writes what has changed; *offer* is the number of its newest offer, or nil.
local function write_record(record, offer)
    if not record.key or not next(record.fields) then return end
    local flat = {}
    if offer and offer > record.newest then record.fields.cronq_offer = string.format('%d', offer) end
    for name, value in pairs(record.fields) do
        flat[#flat + 1] = name
        flat[#flat + 1] = value
    end
    redis.call('HSET', record.key, unpack(flat))
    if record.was and not record.current then redis.call('HDEL', record.key, 'current_job') end
end
