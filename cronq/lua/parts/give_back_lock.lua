--@ lock_keys
-- Part of settle_and_take, undo_start and runs/give_back_lock. Gives back the lock *name* that the run of *item* holds
-- under its execution, as the script of python-redis-lock does: whoever waits for it there sees a signal for a second.
-- Then *wake_next*, which is wake_waiter, wakes the run that has waited longest for it. A lock that is another's by now
-- is not touched. One that is to be held for *item*.hold_ms more ends by itself then: who waits looks as often as that.
local function give_back_lock(item, name, wake_next)
    local lock, _, signal = lock_keys(item.prefix, name)
    if redis.pcall('GET', lock) ~= item.execution then return end
    if item.hold_ms then
        redis.call('PEXPIRE', lock, item.hold_ms)
        return
    end
    redis.call('DEL', signal)
    redis.call('LPUSH', signal, 1)
    redis.call('PEXPIRE', signal, 1000)
    redis.call('DEL', lock)
    if redis.call('EXISTS', item.prefix .. ':job:' .. name .. ':waiting') == 1 then
        wake_next(item.prefix, name, item.events)
    else
        redis.call('SREM', item.prefix .. ':waiting', name)
    end
end
