-- ARGV: watch, 'replay' or 'discard', dead deliveries   Returns those that were dead: due again now, or gone.
local name, at, done = ARGV[1], clock(), {}
for i = 3, #ARGV do
  local id = ARGV[i]
  if call('ZREM', of_watch('dead', name), id) == 1 then
    if ARGV[2] == 'replay' then
      call('HDEL', delivery(id), 'cause', 'error', 'died')
      call('HSET', delivery(id), 'attempts', 0)
      call('ZADD', of_watch('outbox', name), at, id)
    else
      call('DEL', delivery(id))
      call('HINCRBY', of_watch('told', name), 'discarded', 1)
    end
    done[#done + 1] = id
  end
end
return done
