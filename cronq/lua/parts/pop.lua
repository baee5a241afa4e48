--@ rq
-- Part of settle_and_take: moves ids from queues into RQ's intermediate lists.

-- Returns why nothing is to be taken at this moment: '' when `rq suspend` is on, the JSON of a hold when each of
-- *workers* is drained; else nil. And then by the name of a worker or queue the JSON of the hold that it has.
local function read_holds(prefix, host, workers, queues)
    if redis.call('EXISTS', RQ .. 'suspended') == 1 then return '' end
    local fields = {'all', 'host:' .. host}
    for _, worker in ipairs(workers) do fields[#fields + 1] = 'worker:' .. worker end
    for _, queue in ipairs(queues) do fields[#fields + 1] = 'queue:' .. queue end
    local holds = redis.pcall('HMGET', prefix .. ':holds', unpack(fields))
    if holds.err then holds = {} end  -- of a wrong type: that holds nobody
    local by_worker, by_queue, at = {}, {}, 2
    for i, worker in ipairs(workers) do by_worker[worker] = holds[at + i] or nil end
    at = at + #workers
    for i, queue in ipairs(queues) do by_queue[queue] = holds[at + i] or nil end
    return holds[1] or holds[2] or nil, by_worker, by_queue
end

-- Pops the next id of the queue *key* that is not *is_for_newer*, as this function says of an id: such a one goes to
-- the tail. Returns the id, false when there is none, or an error.
local function pop_from(key, is_for_newer)
    local popped, looks = key .. ':intermediate', nil
    repeat
        local id = redis.pcall('LMOVE', key, popped, 'LEFT', 'RIGHT')
        if type(id) == 'table' or not id or not is_for_newer(id) then return id end
        redis.call('LREM', popped, -1, id)
        redis.call('RPUSH', key, id)
        looks = (looks or math.min(redis.call('LLEN', key), 100)) - 1
    until looks <= 0
    return false
end

-- Pops the next id of *queues*, in this order. Returns the name of its queue and the id; nil when all are empty or in
-- *paused*; and then as third what is wrong with a key of them, in words, or an error, if that is so.
local function pop_next(queues, paused, is_for_newer)
    local trouble
    for _, queue in ipairs(queues) do
        local key = RQ .. 'queue:' .. queue
        local id = not paused[queue] and pop_from(key, is_for_newer)
        if type(id) == 'table' then
            if not string.find(id.err, 'WRONGTYPE', 1, true) then return nil, nil, id.err end
            trouble = trouble or 'WRONGTYPE ' .. key .. ' or its intermediate list is not a list'
        elseif id then
            return queue, id
        end
    end
    return nil, nil, trouble
end
