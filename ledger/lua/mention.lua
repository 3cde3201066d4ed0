-- ARGV: key, name, seconds
call('ZADD', ARGV[1], clock() + tonumber(ARGV[3]), ARGV[2])
return 1
