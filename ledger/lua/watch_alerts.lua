-- ARGV: watch, most deliveries that wait, then for each alert: what tells it from others, 'firing' or 'resolved',
-- delivery, body, what is kept of it while it fires
-- Returns how many were new: an alert is told to fire once, and to be resolved once after that.
local name, firing = ARGV[1], of_watch('firing', ARGV[1])
if call('HEXISTS', ALERTING, name) == 0 then
  return 0
end
local at, new = clock(), 0
for i = 3, #ARGV, 5 do
  local alert, fires = ARGV[i], ARGV[i + 1] == 'firing'
  local known = call('HEXISTS', firing, alert) == 1
  if fires ~= known then
    if fires then
      call('HSET', firing, alert, ARGV[i + 4])
    else
      call('HDEL', firing, alert)
    end
    put_delivery(name, ARGV[i + 2], alert, ARGV[i + 3], at, tonumber(ARGV[2]))
    call('HINCRBY', of_watch('told', name), 'matches', 1)
    call('HSET', of_watch('told', name), 'last_match', at)
    new = new + 1
  end
end
return new
