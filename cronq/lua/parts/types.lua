-- Part of every script that holds keys to their types before it writes: Lua is not rolled back when a command fails
-- half-way.

-- Returns true if *key* is of type *kind*, or is not there.
local function fits(key, kind)
    local found = redis.call('TYPE', key).ok
    return found == kind or found == 'none'
end

-- *wanted* is {key, type, key, type, …}. Returns what is wrong with the first key of another type, in words, and that
-- key itself; nil when all fit.
local function wrong_type(wanted)
    for i = 1, #wanted, 2 do
        if not fits(wanted[i], wanted[i + 1]) then
            return wanted[i] .. ' is not a ' .. wanted[i + 1], wanted[i]
        end
    end
    return nil
end
