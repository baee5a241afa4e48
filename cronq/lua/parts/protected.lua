-- Part of settle_and_take and renew: what stands in one item of a call keeps no other from being dealt with.

-- Calls *does*. Returns the two values that it returns, or nil and the error in words.
local function protected(does, ...)
    local fine, found, more = pcall(does, ...)
    if fine then return found, more end
    local words = tostring(type(found) == 'table' and found.err or found)
    return nil, string.match(words, '%f[%u]%u%u%u+ .*') or words
end
