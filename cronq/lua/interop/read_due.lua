-- Takes or renews the locks of rq-scheduler's store and of RQ's registries of scheduled jobs, and reads what is due.
--
-- KEYS  none (the registries follow from rq:queues; one that may not be read must not keep the others from being read)
-- ARGV  1 JSON {prefix, holder, life, now, most, most_bytes, skip}
--       holder: what all beats of an installation write into the locks   life: of a lock, seconds
--       most: entries to return   most_bytes: of a field of an RQ job that is read
--       skip: store -> how many of its due entries to pass over
-- Returns [[store, trouble]…], [[store, id, score, state in the ledger, is its RQ job there, meta, origin, status,
--   enqueued_at, started_at, ended_at, ttl, at front, at front on retry, dependency ids]…, delayed runs of ours]
--   store: "" for rq-scheduler's, else the queue of RQ's   trouble: why that store is not served
--
-- One step, because a lock that is read as free has to be ours before anybody else can take it.
--@ refusal
--@ rq

local item = cjson.decode(ARGV[1])
local try = redis.pcall
local troubles, entries = {}, {}
local refused

-- Takes or keeps a lock that stock schedulers respect; nil when it is ours, else why not.
local function hold(lock)
    local holder = try('GET', lock)
    if type(holder) == 'table' and holder.err then return 'broken ' .. lock .. ': ' .. holder.err end
    if holder and holder ~= item.holder then return 'held ' .. string.sub(holder, 1, 60) end
    local done = try('SET', lock, item.holder, 'EX', item.life)
    refused = refused or done.err and refusal(done.err)
    if done.err then return 'broken ' .. lock .. ': ' .. done.err end
    return nil
end

local function text(reply)
    return type(reply) == 'string' and reply or ''
end

local function read(store, key, lock)
    local trouble = hold(lock)
    local due = not trouble and try('ZRANGEBYSCORE', key, '-inf', item.now, 'WITHSCORES', 'LIMIT',
        item.skip[store] or 0, item.most - #entries) or {}
    if due.err then trouble = 'broken ' .. key .. ': ' .. due.err end
    if trouble then
        troubles[#troubles + 1] = {store, trouble}
        return
    end
    for i = 1, #due, 2 do
        local id = due[i]
        local state = try('HGET', item.prefix .. ':run:' .. id, 'state')
        local job = try('HMGET', RQ .. 'job:' .. id, 'meta', 'origin', 'status', 'enqueued_at', 'started_at',
            'ended_at', 'ttl', 'enqueue_at_front', 'enqueue_at_front_on_retry', 'dependency_ids', 'data')
        local there = job.err and 'a key of a wrong type' or job[11] and 'yes' or ''
        if store ~= '' and there == 'yes' then job[1], job[10] = false, false end  -- only rq-scheduler's mean something
        for field = 1, 10 do
            if there == 'yes' and job[field] and #job[field] > item.most_bytes then
                there, job = 'one with ' .. #job[field] .. ' bytes in one field, more than any meta has', {}
            end
        end
        local entry = {store, id, due[i + 1], text(state), there}
        for field = 1, 10 do entry[#entry + 1] = text(job[field]) end
        entries[#entries + 1] = entry
    end
end

read('', 'rq:scheduler:scheduled_jobs', 'rq:scheduler_lock')
local queues = try('SMEMBERS', RQ .. 'queues')
if not queues.err then
    for _, queue in ipairs(queues) do
        local name = string.sub(queue, #RQ + 7)  -- what follows `queue:`
        read(name, RQ .. 'scheduled:' .. name, RQ .. 'scheduler-lock:' .. name)
    end
end
if refused then return redis.error_reply(refused) end
local ours = try('ZCARD', item.prefix .. ':delayed')
return {troubles, entries, type(ours) == 'number' and ours or -1}
