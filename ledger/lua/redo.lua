-- ARGV: order, most orders at once, id, record, id, record, …
-- Returns the positions (from 0) of the images that had landed, or that nobody remembers any more; they are queued now,
-- to be made again. {-1}, and nothing is changed, where images of too many other orders are on their way.
local at, order = clock(), ARGV[1]
if call('HEXISTS', ORDERS, redis.sha1hex(order)) == 0 and call('HLEN', ORDERS) >= tonumber(ARGV[2]) then
  return {-1}
end
local queued = {}
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  local mark = trace(id)
  local landed = mark and STATES[mark:sub(1, 1)] == 'landed'
  if landed or not mark and call('EXISTS', image(id)) == 0 then
    if landed then
      remove_trace(id)
      call('HINCRBY', COUNTS, 'landed', -1)
    else
      call('HINCRBY', COUNTS, 'seen', 1)
    end
    enqueue_again(id, ARGV[i + 1], at)
    put_under(id, order)
    queued[#queued + 1] = (i - 3) / 2
  end
end
return queued
