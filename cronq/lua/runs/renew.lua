-- Notes that runs of one process are alive, renews their locks, and tells their guardians what they are to do.
--
-- KEYS  none (all are built from the runs: one Redis, no Cluster)
-- ARGV  1 JSON {prefix, now, stamp, lease, events, lock_ttl_ms, fence_life,
--               runs: [{run, job, queue, attempt, execution, lock, slow, group, host}…]}
--       stamp: now as RQ writes times   lease: life of RQ's records (seconds)
--       lock: name of the lock that the run holds under its execution, or absent
--       group: it may be at work only while *host* is in that group; absent: anywhere
--       slow: it takes longer than its job's warn_after. It is told of once in an attempt, however often this is sent.
-- Returns [[word, or false; what is wrong, in words, or false; what locks/renew says of the lock, or false without one;
--         what is wrong there, or false; who has taken that lock from the run by force, or false]…], in their order.
--         What stands in one run keeps no other from being renewed, nor its lock. The words:
--       ""          it goes on. So does a run without a row: Redis came back empty, and nobody else can be working on
--                   it; and one that a beat called lost while its guardian was cut off: its outcome will replace that
--       left        its host is no longer in its group, or the group is gone
--       stop <by>   a person asked for its end
--       settled     it is no longer this attempt's
--       forgotten   it is queued in this attempt: Redis came back without its last second, it is to be started again
--
-- It counts as heard of at this moment by the server's own clock, which no delay of a reply and no doubt about a jump
-- can make older than it is.
--
-- One step, because a renewal after the run was settled would bring a dead run back into `running`, and one of a lock
-- could lengthen another's; and for all of them, because a round trip for each would make those of a busy process late.
--@ groups
--@ lock_keys
--@ protected
--@ renew_lock
--@ renew_run

local item, renewed = cjson.decode(ARGV[1]), {}
local time = redis.call('TIME')
local seen = time[1] .. '.' .. string.format('%06d', time[2])
for i, each in ipairs(item.runs) do
    local answer = {false, false, false, false, false}
    if each.lock then
        local lock, fence = lock_keys(item.prefix, each.lock)
        local said, wrong = protected(renew_lock, lock, fence, each.execution, item.lock_ttl_ms, item.fence_life)
        answer[3], answer[4] = said or false, wrong or false  -- a reply ends at its first nil
        if said ~= 1 and not wrong then
            local known = redis.pcall('HMGET', fence, 'released_run', 'released_by')
            answer[5] = known[1] == each.run and known[2] or false
        end
    end
    each.prefix, each.now, each.stamp, each.lease = item.prefix, item.now, item.stamp, item.lease
    each.events, each.seen = item.events, seen
    local word, why = protected(renew_run, each)
    if word == '' and each.group and not is_in_group(item.prefix, each.group, each.host) then word = 'left' end
    answer[1], answer[2] = word or false, why or false
    renewed[i] = answer
end
return renewed
