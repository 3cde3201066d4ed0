-- ARGV: key, name, seconds
call('ZREM', ARGV[1], ARGV[2]) -- first what a full server allows
call('ZADD', ARGV[1], clock() + tonumber(ARGV[3]), ARGV[2])
return 1
