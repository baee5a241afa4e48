-- Part of acquire, start and settle_and_take: locks, and who holds them.

-- Looks at a lock and its fence. Returns what is wrong with one of these keys, in words, or nil; the id of the holder
-- or false; the last token or nil; whose that was. It writes nothing.
local function look_at_lock(lock, fence)
    local owner = redis.pcall('GET', lock)
    if type(owner) == 'table' then return lock .. ' is not a string' end
    local known = redis.pcall('HMGET', fence, 'token', 'id', 'run_id')
    if known.err then return fence .. ' is not a hash' end
    return nil, owner, tonumber(known[1]), known[2], known[3]
end

-- Takes a lock that is free or held by *holder*.id, for *ttl_ms*; *owner*, *last* and *whose* are what look_at_lock has
-- found. *holder* is {id, host, pid, run, life}, the last in seconds: for so long it stays known who had the lock.
-- Returns the fencing token: that of the hold so far, if there is one.
local function take_lock(lock, fence, ttl_ms, holder, owner, last, whose)
    redis.call('SET', lock, holder.id, 'PX', ttl_ms)
    if owner and last and whose == holder.id then
        redis.call('EXPIRE', fence, holder.life)
        return last
    end
    -- Server time in microseconds is below 2^53 until the year 2255, and above any token given before, should
    -- the fence be deleted; the last token + 1 is above it, should the server's clock be set back.
    local now = redis.call('TIME')
    local token = math.max((last or 0) + 1, now[1] * 1000000 + now[2])
    redis.call('HSET', fence, 'token', string.format('%.0f', token), 'id', holder.id, 'host', holder.host,
        'pid', holder.pid, 'run_id', holder.run, 'since', string.format('%d.%06d', now[1], now[2]))
    redis.call('EXPIRE', fence, holder.life)
    return token
end
