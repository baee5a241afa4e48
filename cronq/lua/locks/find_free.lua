-- Finds locks that runs wait for and that nobody holds.
--
-- KEYS  1 waiting (SET of lock names)
-- ARGV  1 what the key of a lock begins with   2 cursor over the locks   3 about how many to look at
-- Returns {the next cursor ("0" at the end), {lock, …}}. It writes nothing.
--
-- One step, because a round trip for each of thousands of locks would make ticks wait meanwhile.
local found = redis.call('SSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
local free = {}
for _, lock in ipairs(found[2]) do
    if redis.call('EXISTS', ARGV[1] .. lock) == 0 then free[#free + 1] = lock end
end
return {found[1], free}
