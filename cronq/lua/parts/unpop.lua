--@ types
-- Part of the scripts that return an id from RQ's intermediate list to its queue: with LPUSH to the head, with RPUSH
-- to the tail. Returns false when it is not in that list (any more), or when the queue is of a wrong type: then it
-- stays in the intermediate list, and nothing was written.
local function unpop(popped, queue, command, id)
    if not fits(queue, 'list') or redis.call('LREM', popped, 1, id) == 0 then return false end
    redis.call(command, queue, id)
    return true
end
