-- Part of trigger: a moment as it stands in run ids and descriptions. Times of day have no zone here but UTC.

-- Year, month, day, hour, minute and second of *epoch* (seconds), by the proleptic Gregorian calendar: the days are
-- counted from the first of March of the year 0, so that a leap day is the last of its year.
local function utc_fields(epoch)
    local floor = math.floor
    local days, second = floor(epoch / 86400) + 719468, epoch % 86400
    local era = floor(days / 146097)
    local day = days - era * 146097
    local year = floor((day - floor(day / 1460) + floor(day / 36524) - floor(day / 146096)) / 365)
    day = day - (365 * year + floor(year / 4) - floor(year / 100))
    local month = floor((5 * day + 2) / 153)
    day = day - floor((153 * month + 2) / 5) + 1
    month = month < 10 and month + 3 or month - 9
    year = year + era * 400 + (month <= 2 and 1 or 0)
    return year, month, day, floor(second / 3600), floor(second % 3600 / 60), second % 60
end

-- As `timetext.tick_stamp` writes it.
local function tick_stamp(epoch)
    return string.format('%04d%02d%02dT%02d%02d%02dZ', utc_fields(epoch))
end

-- As `timetext.iso` writes it.
local function iso(epoch)
    return string.format('%04d-%02d-%02dT%02d:%02d:%02dZ', utc_fields(epoch))
end

-- What follows the job's name in the description of an RQ job, as `runs.run.describe_run` writes it.
local function in_description(epoch)
    local year, month, day, hour, minute, second = utc_fields(epoch)
    local text = string.format(' @ %04d-%02d-%02d %02d:%02d', year, month, day, hour, minute)
    return text .. (second > 0 and string.format(':%02d', second) or '') .. ' UTC'
end
