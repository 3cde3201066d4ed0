-- ARGV: id, record, id, record, …   Returns the positions (from 0) of the letters that were there; their images are
-- queued now, with all attempts before them; one that was poison is a suspect from the start.
local at = clock()
local queued = {}
for i = 1, #ARGV, 2 do
  local id = ARGV[i]
  local died = call('ZSCORE', DEAD_TRANSIENT, id)
  local cause = call('HGET', DEAD_CAUSES, id)
  if remove_letter(id) then
    remove_trace(id)
    enqueue_again(id, ARGV[i + 1], at)
    if cause == 'poison' then
      call('ZREM', QUEUED, id)
      call('HSET', image(id), 'deaths', 1)
      set_apart(id, at)
    end
    if died then
      call('HSET', image(id), 'died', died)
    end
    queued[#queued + 1] = (i - 1) / 2
  end
end
return queued
