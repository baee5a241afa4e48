-- Part of locks/renew and runs/renew. Renews the lock that *id* still holds. Returns 1 renewed, 0 the key is gone, -1
-- somebody else holds it. It creates nothing, so it works when Redis is out of memory.
local function renew_lock(lock, fence, id, ttl_ms, life)
    local owner = redis.call('GET', lock)
    if not owner then
        return 0
    elseif owner ~= id then
        return -1
    end
    redis.call('PEXPIRE', lock, ttl_ms)
    redis.call('EXPIRE', fence, life)  -- of any type: a lock that is held for months is shown with its holder
    return 1
end
