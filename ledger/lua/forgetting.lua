-- ARGV: most entries   Returns entry, time, entry, time, … of what is to be deleted from the store now.
return call('ZRANGEBYSCORE', FORGETTING, '-inf', clock(), 'WITHSCORES', 'LIMIT', 0, ARGV[1])
