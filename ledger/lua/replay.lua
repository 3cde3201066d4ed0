-- ARGV: id, record, order ('' for none), id, record, order, …   Returns the positions (from 0) of the letters that were
-- there; their images are queued now, with all attempts before them; one that was poison is a suspect from the start.
-- One that died when it was made again is made again, as its order says.
local at = clock()
local queued = {}
for i = 1, #ARGV, 3 do
  local id, order = ARGV[i], ARGV[i + 2]
  local died = call('ZSCORE', DEAD_TRANSIENT, id)
  local cause = call('HGET', DEAD_CAUSES, id)
  if remove_letter(id) then
    remove_trace(id)
    enqueue_again(id, ARGV[i + 1], at)
    if order ~= '' then
      put_under(id, order)
    end
    if cause == 'poison' then
      call('ZREM', QUEUED, id)
      call('HSET', image(id), 'deaths', 1)
      set_apart(id, at)
    end
    if died then
      call('HSET', image(id), 'died', died)
    end
    queued[#queued + 1] = (i - 1) / 3
  end
end
return queued
