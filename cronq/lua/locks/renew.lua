-- Renews a lock that its holder still has.
--
-- KEYS  1 lock (STRING: the holder's id)   2 fence (HASH: who that is)
-- ARGV  1 id of the holder   2 ttl in ms   3 life of the fence from now on, in seconds
-- Returns 1 renewed, 0 the key is gone, -1 somebody else holds it.
--
-- One step, because between reading the id and setting the ttl the key could expire and be taken: the
-- renewal would then lengthen another's lease. It creates nothing, so it works when Redis is out of memory.
--@ renew_lock

return renew_lock(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3])
