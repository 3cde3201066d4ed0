-- ARGV: id, time of its landing (seconds), id, time, …   Images that the store has: those that are not known have landed,
-- and so have those that wait for something; standing searches look at both. One that was forgotten, or is cancelled, is
-- to be deleted again.
-- Returns {positions (from 0) of those not known, positions of those that waited}.
local new, waited = {}, {}
for i = 1, #ARGV, 2 do
  local id = ARGV[i]
  local now, list = call('HMGET', image(id), 'state', 'redo'), nil
  local state = now[1]
  if (state == 'queued' or state == 'waiting') and not now[2] then -- one that is made again waits for its new object
    call('ZREM', QUEUED, id)
    call('ZREM', WAITING, id)
    call('ZREM', SUSPECTS, id)
    call('DEL', image(id))
    drop_outputs(id)
    list = waited
  elseif not state and not trace(id) then
    call('HINCRBY', COUNTS, 'seen', 1)
    list = new
  else
    delete_if_unwanted(id)
  end
  if list then
    local key, field = bucket(id)
    call('HSET', key, field, 'l' .. math.floor(tonumber(ARGV[i + 1]) / 86400))
    call('HINCRBY', COUNTS, 'landed', 1)
    to_be_looked_at(id .. ' ' .. ARGV[i + 1])
    list[#list + 1] = (i - 1) / 2
  end
end
return {new, waited}
