-- ARGV: id, new state, state from which that is possible, …   Returns the state before, or nothing where there is none.
local key = backfill(ARGV[1])
local before = call('HGET', key, 'state')
for i = 3, #ARGV do
  if before == ARGV[i] then
    call('HDEL', key, 'held')
    call('HSET', key, 'state', ARGV[2])
  end
end
return before
