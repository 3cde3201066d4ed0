-- ARGV: backfill, most images to queue, id, record, id, record, …   Queues those that are new, in order, while there is
-- room for them. Returns how many were looked at, then the positions (from 0) of those that are queued now; nothing
-- while the backfill is not running.
local key, images, room = backfill(ARGV[1]), backfill_images(ARGV[1]), tonumber(ARGV[2])
if call('HGET', key, 'state') ~= 'running' then
  return {}
end
local at = clock()
local answer = {(#ARGV - 2) / 2}
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  if is_new(id) then
    if #answer > room then
      answer[1] = (i - 3) / 2
      break
    end
    call('SADD', images, id)
    call('HINCRBY', COUNTS, 'seen', 1)
    enqueue(id, ARGV[i + 1], at)
    call('HSET', image(id), 'backfill', ARGV[1])
    call('HINCRBY', key, 'queued', 1)
    answer[#answer + 1] = (i - 3) / 2
  end
end
return answer
