-- ARGV: most   Returns id, time, id, time, … of the images that landed and are to be copied again, the oldest first.
return call('ZRANGE', CHANGED, 0, ARGV[1] - 1, 'WITHSCORES')
