-- Takes a lock, or says how long it is still held by another.
--
-- KEYS  1 lock (STRING: the holder's id, python-redis-lock's layout)   2 fence (HASH)
-- ARGV  1 id of the one who asks   2 ttl in ms   3 host   4 pid   5 run id ('' = unknown)
--       6 life of the fence from now on, in seconds
-- Returns {1, fencing token} when it is taken now or was by the same id before, else {0, ms that the holder's
--         lease still lasts (-1: no limit)}. A key of a wrong type: an error that names it, and nothing was written.
--
-- One step, because between finding the lock free and writing its holder and token another could do the same;
-- and because a request that is sent again after its reply was lost must find "already mine" and the token
-- of its first arrival, not somebody to wait for.
--@ take_lock

local wrong, owner, last, whose = look_at_lock(KEYS[1], KEYS[2])
if wrong then return redis.error_reply('WRONGTYPE ' .. wrong) end
if owner and owner ~= ARGV[1] then return {0, redis.call('PTTL', KEYS[1])} end
-- Both keys have been read, so neither is of a wrong type and nothing below can fail half-way.
local holder = {id = ARGV[1], host = ARGV[3], pid = ARGV[4], run = ARGV[5], life = ARGV[6]}
return {1, take_lock(KEYS[1], KEYS[2], ARGV[2], holder, owner, last, whose)}
