-- Part of settle and settle_and_take: steps that a key of a wrong type does not keep back.

-- Does what it can: an error that a wrong type makes is answered like nothing at all, any other is raised.
local function try(...)
    local reply = redis.pcall(...)
    if type(reply) ~= 'table' or not reply.err then return reply end
    if not string.find(reply.err, 'WRONGTYPE', 1, true) then error(reply.err, 0) end
    return nil
end

-- The same for a function of several commands.
local function try_all(does, ...)
    local fine, why = pcall(does, ...)
    if not fine and not string.find(tostring(type(why) == 'table' and why.err or why), 'WRONGTYPE', 1, true) then
        error(why, 0)
    end
end
