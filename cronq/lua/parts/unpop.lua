-- Part of every script that returns an id from RQ's intermediate list to its queue: with LPUSH to the head, with RPUSH
-- to the tail. Returns false when it is not in that list (any more), and then writes nothing.
local function unpop(popped, queue, command, id)
    if redis.call('LREM', popped, 1, id) == 0 then return false end
    redis.call(command, queue, id)
    return true
end
