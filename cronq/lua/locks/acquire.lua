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
local owner = redis.pcall('GET', KEYS[1])
if type(owner) == 'table' and owner.err then return redis.error_reply('WRONGTYPE ' .. KEYS[1] .. ' is not a string') end
local fence = redis.pcall('HMGET', KEYS[2], 'token', 'id')
if fence.err then return redis.error_reply('WRONGTYPE ' .. KEYS[2] .. ' is not a hash') end
local last = tonumber(fence[1])
if owner and owner ~= ARGV[1] then
  return {0, redis.call('PTTL', KEYS[1])}
end
-- Both keys have been read, so neither is of a wrong type and nothing below can fail half-way.
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if owner and last and fence[2] == ARGV[1] then
  redis.call('EXPIRE', KEYS[2], ARGV[6])
  return {1, last}
end
-- Server time in microseconds is below 2^53 until the year 2255, and above any token given before, should
-- the fence be deleted; the last token + 1 is above it, should the server's clock be set back.
local now = redis.call('TIME')
local token = math.max((last or 0) + 1, now[1] * 1000000 + now[2])
redis.call('HSET', KEYS[2], 'token', string.format('%.0f', token), 'id', ARGV[1],
  'host', ARGV[3], 'pid', ARGV[4], 'run_id', ARGV[5], 'since', string.format('%d.%06d', now[1], now[2]))
redis.call('EXPIRE', KEYS[2], ARGV[6])
return {1, token}
