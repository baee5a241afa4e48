-- Unpops an id that a worker popped and never began: returns it from RQ's intermediate list to the head of its queue.
--
-- KEYS  1 rq:queue:{queue}:intermediate   2 rq:queue:{queue}   3 run:{id}   4 rq:job:{id}
-- ARGV  1 run id   2 name of the queue   3 how often an RQ job that is not ours may be unpopped   4 prefix
-- Returns back   it is queued again: a run to be executed (also a settled one that a person has requeued with RQ's
--                tools, and one whose RQ job is gone: the next worker settles it), or a queued RQ job that is not ours
--         stray  of a run that is at work, waits or is settled: the id is nowhere now
--         often  an RQ job that is not ours, unpopped so often since it last began that it seems to end every worker
--                that takes it: it is to be rejected, and its id was not touched
--         empty  there is neither a run nor an RQ job of that id: nothing was written
--         left   nothing was written: it was not there any more, is not ours to judge, or its queue is of a wrong type
--
-- One step, because two beats may see the same id: only the one that removes it may push it.
--@ unpop
--@ wake

local call = redis.call
local state = redis.pcall('HGET', KEYS[3], 'state')  -- an error, as a table, when it is of a wrong type
local status = redis.pcall('HGET', KEYS[4], 'status')
local is_damaged = type(status) == 'table'
local function back()
    if not unpop(KEYS[1], KEYS[2], 'LPUSH', ARGV[1]) then return 'left' end
    wake(ARGV[4], ARGV[2])
    return 'back'
end
if type(state) == 'table' or is_damaged then return back() end  -- the next worker says what is wrong with it
if state then
    if state == 'queued' or (state == 'done' and status == 'queued') then return back() end
    return call('LREM', KEYS[1], 1, ARGV[1]) > 0 and 'stray' or 'left'
end
if status == 'queued' then
    local times = tonumber(call('HGET', KEYS[4], 'cronq_put_back') or '') or 0
    if times >= tonumber(ARGV[3]) then
        call('HDEL', KEYS[4], 'cronq_put_back')  -- a person who requeues it begins anew
        return 'often'
    end
    local code = back()
    if code == 'back' then call('HSET', KEYS[4], 'cronq_put_back', times + 1) end
    return code
end
return call('EXISTS', KEYS[4]) == 0 and 'empty' or 'left'
