-- Goes through the backfills that read or have images on their way: an image that has ended is counted and let go, and a
-- backfill with nothing left to do is over.
-- Returns how many images are pending, how many are queued and leased that are no backfill's, then for each of these
-- backfills its id and how many of its images are queued, leased and waiting.
local at = clock()
local queued, leased, answer = call('ZCARD', QUEUED), call('ZCARD', LEASED), {}
for _, id in ipairs(call('SMEMBERS', ACTIVE)) do
  local key, images = backfill(id), backfill_images(id)
  local states = {queued = 0, leased = 0, waiting = 0}
  for _, one in ipairs(call('SMEMBERS', images)) do
    local state = call('HGET', image(one), 'state')
    if state then
      states[state] = states[state] + 1
    else
      call('SREM', images, one)
      local mark = trace(one)
      if mark then
        call('HINCRBY', key, STATES[mark:sub(1, 1)], 1)
      end
    end
  end
  queued, leased = queued - states.queued, leased - states.leased
  for _, word in ipairs({id, states.queued, states.leased, states.waiting}) do
    answer[#answer + 1] = word
  end
  if states.queued + states.leased + states.waiting == 0 then
    local now = call('HMGET', key, 'state', 'cursor', 'until')
    local read = now[1] == 'running' and now[2] == now[3]
    if read or now[1] == 'cancelled' or not now[1] then
      call('SREM', ACTIVE, id)
      if now[1] then
        call('HSET', key, 'state', read and 'done' or 'cancelled', 'ended', string.format('%.3f', at))
      end
    end
  end
end
local pending = call('ZCARD', QUEUED) + call('ZCARD', WAITING) + call('ZCARD', SUSPECTS)
return {pending, queued, leased, unpack(answer)}
