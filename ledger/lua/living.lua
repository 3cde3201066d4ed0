-- ARGV: key   Returns the names whose time has not ended; the others are removed.
call('ZREMRANGEBYSCORE', ARGV[1], '-inf', clock())
return call('ZRANGE', ARGV[1], 0, -1)
