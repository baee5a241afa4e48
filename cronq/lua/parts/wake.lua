-- Part of push and of unpop. Tells the workers that something was queued in *queue*.
-- A message that may not be sent, or is lost, costs a second: they look by themselves.
local function wake(prefix, queue)
    redis.pcall('PUBLISH', prefix .. ':wake', queue)
end
