-- ARGV: '1' where the store has an object of each, id, record, id, record, …   Returns the positions (from 0) of the images
-- that had landed; they are queued now. Where they are cancelled, those with an object have landed, as before.
local at = clock()
local stored, queued = ARGV[1] == '1', {}
for i = 2, #ARGV, 2 do
  local id = ARGV[i]
  local mark = trace(id)
  if mark and STATES[mark:sub(1, 1)] == 'landed' then
    remove_trace(id)
    call('HINCRBY', COUNTS, 'landed', -1)
    enqueue_again(id, ARGV[i + 1], at)
    if stored then
      call('HSET', image(id), 'landed', 1)
    end
    queued[#queued + 1] = i / 2 - 1
  end
end
return queued
