--@ event
--@ lock_keys
--@ rarely
--@ rq
--@ take_lock
-- Part of settle_and_take: which of the ids that were popped may be started at once, and their start.
--
-- What is *plain* is queued, of a job that this process knows to read, fresh enough and free to go. Whatever is not
-- goes through the worker's own steps: worker/guardian and worker/worker, which decide alike.

-- The fields of a job that are answered, and those of its state.
local JOB_FIELDS = {'spec', 'version', 'layout', 'source', 'origin', 'default_tz'}
local STATE_FIELDS = {'mark', 'streak', 'last_run', 'last_outcome', 'last_tick', 'last_ended', 'success_tick',
    'first_run'}

local function of_flat(flat)
    local row = {}
    for i = 1, #flat, 2 do row[flat[i]] = flat[i + 1] end
    return row
end

-- Returns what the ledger has of the id: {flat, row, job}; without row and job when it has none, or a key is of a wrong
-- type.
local function look_at_run(item, id)
    local flat = redis.pcall('HGETALL', item.prefix .. ':run:' .. id)
    if flat.err or #flat == 0 then return {} end
    local row = of_flat(flat)
    local job = row.job and redis.pcall('HMGET', item.prefix .. ':job:' .. row.job, unpack(JOB_FIELDS))
    return {flat = flat, row = row, job = job and not job.err and job or nil}
end

-- Returns what the start depends on, {ttl, is_command, once, lock, max_crashes}, from the text of a spec; nil for one
-- that this script does not understand.
local function read_spec(text, name, most_crashes)
    local fine, spec = pcall(cjson.decode, text)
    if not fine or type(spec) ~= 'table' or spec.name ~= name then return nil end
    local function given(key, kind)
        local value = spec[key]
        if value == nil or value == cjson.null then return nil end
        if type(value) ~= kind then fine = false end
        return value
    end
    local lock = given('lock', 'string')
    local wanted = {ttl = given('ttl', 'number'), is_command = given('command', 'table') ~= nil,
        once = given('at_most_once', 'boolean')}
    if given('on_lost', 'string') == 'rerun' then
        wanted.max_crashes = given('max_crashes', 'number') or most_crashes
    end
    if given('exclusive', 'boolean') then wanted.lock = lock or name end
    if wanted.lock and (#wanted.lock > 100 or not string.match(wanted.lock, '^[%w_-]+$')) then return nil end
    return fine and wanted or nil
end

-- Returns true if a run may still start by its ttl. One of a backfill is late anyway.
local function is_fresh(item, row, ttl)
    local is_later = row.trigger == 'backfill' or (tonumber(row.attempt or '') or 1) > 1
    if not ttl or not row.tick or is_later then return true end
    local tick = tonumber(row.tick)
    return tick ~= nil and tonumber(item.now) - tick <= ttl
end

-- Returns what the start of a popped id depends on, and its RQ job's key, when it is plain; else nil.
local function why_plain(item, id, found)
    local row, job = found.row, found.job
    if not row or not job or row.state ~= 'queued' or not job[1] or item.left_alone[row.job] then return nil end
    local attempt = row.attempt or '1'
    if #attempt > 6 or not string.match(attempt, '^%d+$') then return nil end
    if (tonumber(job[3] or '1') or 1) > item.knows then return nil end
    local spec = read_spec(job[1], row.job, item.max_crashes)
    if not spec or (spec.is_command and item.no_commands) or not is_fresh(item, row, spec.ttl) then return nil end
    if spec.once and (row.started_at or row.facts) then return nil end
    local hash, set = RQ .. 'job:' .. id, row.tick and ':active' or ':given'
    if type(redis.pcall('HGET', hash, 'status')) ~= 'string' then return nil end
    if redis.pcall('HEXISTS', item.prefix .. ':removed:' .. row.job .. set, id) ~= 0 then return nil end
    found.state = redis.pcall('HMGET', item.prefix .. ':job:' .. row.job .. ':state', unpack(STATE_FIELDS))
    if found.state.err then return nil end
    return spec, hash, item.prefix .. ':job:' .. row.job .. set
end

-- Looks at the lock of a run: returns nil when it may not have it, else what takes it and returns its fencing token,
-- as text.
local function lock_of(item, offer, id, name)
    local lock, fence = lock_keys(item.prefix, name)
    local wrong, owner, last, whose = look_at_lock(lock, fence)
    if wrong or (owner and owner ~= offer.execution) then return nil end
    local holder = {id = offer.execution, host = item.host, pid = item.pid, run = id, life = item.fence_life}
    return function()
        return string.format('%.0f', take_lock(lock, fence, item.lock_ttl_ms, holder, owner, last, whose))
    end
end

local function fails(...)
    local reply = redis.pcall(...)
    return type(reply) == 'table' and reply.err ~= nil
end

-- Lists the run as one at work, in keys that may be of a wrong type: no other write of a start can fail. Returns true;
-- or false when one of them is: then none of it is there (any more).
local function list_as_running(item, offer, queue, id, job, active)
    local execution, ends, entry = offer.execution, math.floor(tonumber(item.now)) + item.lease, nil
    local record, executions = RQ .. 'execution:' .. id .. ':' .. execution, RQ .. 'executions:' .. id
    local wip, running, failed = RQ .. 'wip:' .. queue, item.prefix .. ':running', 0
    entry = id .. ':' .. execution
    if fails('HSET', active, id, 'running') then
        return false
    elseif fails('ZADD', running, item.seen, id) then
        failed = 1
    elseif fails('ZADD', wip, ends, entry) then
        failed = 2
    elseif fails('HSET', record, 'id', execution, 'created_at', item.now, 'last_heartbeat', item.now, 'worker_name',
            offer.worker) then
        failed = 3
    elseif fails('ZADD', executions, ends + 60, execution) then
        failed = 4
    elseif not pcall(event, item.prefix .. ':events', item.events, 'started', job, id) then
        failed = 5
    else
        redis.call('EXPIRE', record, item.lease)
        redis.call('EXPIRE', executions, item.lease + 60)
        return true
    end
    redis.call('HSET', active, id, 'queued')
    if failed > 1 then redis.call('ZREM', running, id) end
    if failed > 2 then redis.call('ZREM', wip, entry) end
    if failed > 3 then redis.call('DEL', record) end
    if failed > 4 then redis.call('ZREM', executions, execution) end
    return false
end

-- Starts the popped id if it is plain. Returns what is answered of it, or nil: nothing of it was written.
local function start_plain(item, offer, queue, id, found)
    local spec, hash, active = why_plain(item, id, found)
    if not spec then return nil end
    local take, token = nil, nil
    if spec.lock then
        take = lock_of(item, offer, id, spec.lock)
        if not take then return nil end
    end
    local row, run, call = found.row, item.prefix .. ':run:' .. id, redis.call
    if not list_as_running(item, offer, queue, id, row.job, active) then return nil end
    if take then token = take() end
    local attempt = tonumber(row.attempt or '1')
    local fields = {'state', 'running', 'attempt', attempt, 'started_at', item.now, 'host', item.host, 'pid', item.pid,
        'worker', offer.worker, 'execution', offer.execution}
    if spec.max_crashes then
        fields[#fields + 1] = 'max_crashes'
        fields[#fields + 1] = spec.max_crashes
    elseif row.max_crashes then
        call('HDEL', run, 'max_crashes')
    end
    call('HSET', run, unpack(fields))
    call('PERSIST', run)  -- its row may not end before it does; settling gives it a life again
    call('DEL', item.prefix .. ':stop:' .. id)  -- a wish that an earlier attempt end is not for this one
    call('LREM', RQ .. 'queue:' .. queue .. ':intermediate', -1, id)
    call('HSET', hash, 'status', 'started', 'started_at', item.stamp, 'last_heartbeat', item.stamp,
        'worker_name', offer.worker)
    return {'begun', queue, id, offer.execution, attempt, item.now, token or false, spec.lock or false, found.flat,
        found.job, found.state}
end

-- Returns the answer that a start has had already: the run *id*, which the worker of *offer* is said to have, was
-- started for this very offer, and the reply was lost. nil when that is not so. A run that cannot go on, because its
-- job or its lock are gone meanwhile, is popped only.
local function started_before(item, offer, id)
    if redis.pcall('HGET', item.prefix .. ':run:' .. id, 'execution') ~= offer.execution then return nil end
    local found = look_at_run(item, id)
    local row = found.row
    if not row or row.state ~= 'running' or row.execution ~= offer.execution then return nil end
    local queue, job = row.queue or 'default', found.job
    local spec = job and job[1] and read_spec(job[1], row.job or '', item.max_crashes)
    local state = spec and redis.pcall('HMGET', item.prefix .. ':job:' .. row.job .. ':state', unpack(STATE_FIELDS))
    local take = state and not state.err and (not spec.lock or lock_of(item, offer, id, spec.lock))
    if not take then
        local step = {prefix = item.prefix, run = id, job = row.job or '', queue = queue, execution = offer.execution}
        return rare().undo_start(step) and {'taken', queue, id} or nil
    end
    redis.pcall('ZADD', item.prefix .. ':running', item.seen, id)
    return {'begun', queue, id, offer.execution, tonumber(row.attempt or '') or 1, row.started_at or item.now,
        spec.lock and take() or false, spec.lock or false, found.flat, job, state}
end
