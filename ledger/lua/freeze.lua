-- ARGV: key, seconds to keep it   Copies the ids of all images that are on their way or have a letter into a sorted set
-- of their own, at one moment with the counts. Returns {how many ids, {count's name, count, …}}.
call('ZUNIONSTORE', ARGV[1], 5, QUEUED, WAITING, LEASED, SUSPECTS, DEAD_TIME)
call('EXPIRE', ARGV[1], ARGV[2])
return {call('ZCARD', ARGV[1]), call('HGETALL', COUNTS)}
