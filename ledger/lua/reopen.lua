-- ARGV: id, record, id, record, …   Returns the positions (from 0) of the images that had landed; they are queued
-- now, and have landed as before where they are cancelled.
local at = clock()
local queued = {}
for i = 1, #ARGV, 2 do
  local id = ARGV[i]
  local mark = trace(id)
  if mark and STATES[mark:sub(1, 1)] == 'landed' then
    remove_trace(id)
    call('HINCRBY', COUNTS, 'landed', -1)
    enqueue_again(id, ARGV[i + 1], at)
    call('HSET', image(id), 'landed', 1)
    queued[#queued + 1] = (i - 1) / 2
  end
end
return queued
