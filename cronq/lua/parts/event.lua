-- Part of every script that changes a run or a job. Appends *word* to the stream of events, which keeps about the newest
-- *most*; *run* is nil when it is about the job as a whole.
local function event(stream, most, word, job, run)
    if run then
        redis.call('XADD', stream, 'MAXLEN', '~', most, '*', 'type', word, 'job', job, 'run', run)
    else
        redis.call('XADD', stream, 'MAXLEN', '~', most, '*', 'type', word, 'job', job)
    end
end
