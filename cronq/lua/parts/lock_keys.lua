-- Part of the scripts that take, renew or give back the lock of a run. Returns the keys of the lock *name*: that of
-- python-redis-lock, which makes its name of ours; that of its fence; and that of the library's signal of a release.
local function lock_keys(prefix, name)
    local ours = prefix .. ':' .. name
    return 'lock:' .. ours, prefix .. ':fence:' .. name, 'lock-signal:' .. ours
end
