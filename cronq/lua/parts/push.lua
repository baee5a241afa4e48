--@ rq
--@ wake
-- Part of every script that queues something. Pushes *ids* to *queue*, which RQ's tools list from then on, and wakes
-- its workers. *command*: RPUSH for the tail of the queue, LPUSH for its head.
local function push(prefix, queue, command, ids)
    local key = RQ .. 'queue:' .. queue
    redis.call('SADD', RQ .. 'queues', key)
    for first = 1, #ids, 1000 do  -- Lua hands on only so many values at once
        redis.call(command, key, unpack(ids, first, math.min(first + 999, #ids)))
    end
    wake(prefix, queue)
end
