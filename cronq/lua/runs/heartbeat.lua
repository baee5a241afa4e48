-- Notes that a run is alive, and tells its guardian whether it was asked to stop or has been settled.
--
-- KEYS  none (all are built from the run: one Redis, no Cluster)
-- ARGV  1 JSON {prefix, run, job, queue, attempt, execution, now, stamp, lease, events, seen, slow}
--       stamp: now as RQ writes times   lease: life of RQ's records (seconds)
--       seen: when it counts as heard of; absent: this moment by the server's own clock, which no delay of a reply and
--         no doubt about a jump can make older than it is
--       slow: it takes longer than its job's warn_after. It is told of once in an attempt, however often this is sent.
-- Returns "" to go on, "stop <by>" when a person asked, "settled" when the run is no longer this attempt's, "forgotten"
--         when it is queued in this attempt: Redis came back without its last second, and it is to be started again.
--         A run without a row goes on: Redis came back empty, and nobody else can be working on it. So does one that
--         a beat called lost while its guardian was cut off: its outcome will replace that.
--
-- One step, because a renewal after the run was settled would bring a dead run back into `running`.
--@ renew_run

return renew_run(cjson.decode(ARGV[1]))
