--@ types
-- Part of every script that changes a run or a job. Appends *word*, one of `runs/events.py`, to the stream of events,
-- which keeps about the newest *most*; *run* is nil when it is about the job as a whole, *by* unless a person or a
-- program asked for it. *about* is what *name* is a name of, if not of a job.
local function event(stream, most, word, name, run, by, about)
    local kind = about or 'job'
    if run and by then
        redis.call('XADD', stream, 'MAXLEN', '~', most, '*', 'type', word, kind, name, 'run', run, 'by', by)
    elseif by then
        redis.call('XADD', stream, 'MAXLEN', '~', most, '*', 'type', word, kind, name, 'by', by)
    elseif run then
        redis.call('XADD', stream, 'MAXLEN', '~', most, '*', 'type', word, kind, name, 'run', run)
    else
        redis.call('XADD', stream, 'MAXLEN', '~', most, '*', 'type', word, kind, name)
    end
end

-- The same for steps that nothing may keep back: when that key is of a wrong type, nothing is appended.
local function try_event(stream, ...)
    if fits(stream, 'stream') then event(stream, ...) end
end
