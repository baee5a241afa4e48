-- Renews many runs of one process, and their locks.
--
-- KEYS  none (all are built from the runs: one Redis, no Cluster)
-- ARGV  1 JSON {prefix, now, stamp, lease, events, lock_ttl_ms, fence_life,
--               runs: [{run, job, queue, attempt, execution, lock, slow}…]}
--       lock: name of the lock that the run holds under its execution; or absent   the others: see runs/heartbeat
-- Returns [[word of runs/heartbeat, or false; what is wrong, in words, or false; what locks/renew says of the lock, or
--         false without one; what is wrong there, or false]…], in their order. What stands in one run keeps no other
--         from being renewed, nor its lock.
--
-- One step, because as for runs/heartbeat and locks/renew nothing may come between the look at a run or a lock and its
-- renewal; and for all of them, because a round trip for each would make those of a busy process late.
--@ lock_keys
--@ renew_lock
--@ renew_run

local item, renewed = cjson.decode(ARGV[1]), {}
local time = redis.call('TIME')
local seen = time[1] .. '.' .. string.format('%06d', time[2])
local function protected(does, ...)
    local fine, found = pcall(does, ...)
    if fine then return found, false end
    local words = tostring(type(found) == 'table' and found.err or found)
    return false, string.match(words, '%f[%u]%u%u%u+ .*') or words
end
for i, each in ipairs(item.runs) do
    local answer = {false, false, false, false}
    if each.lock then
        local lock, fence = lock_keys(item.prefix, each.lock)
        answer[3], answer[4] = protected(renew_lock, lock, fence, each.execution, item.lock_ttl_ms, item.fence_life)
    end
    each.prefix, each.now, each.stamp, each.lease = item.prefix, item.now, item.stamp, item.lease
    each.events, each.seen = item.events, seen
    answer[1], answer[2] = protected(renew_run, each)
    renewed[i] = answer
end
return renewed
