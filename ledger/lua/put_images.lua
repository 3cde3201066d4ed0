-- ARGV: JSON [id, seconds until it is due, {field: value}], …   Puts images of a back-up where they wait, whatever they
-- were doing then: nobody has a lease or a message of them any more. No count changes, but that of an order's images.
local at = clock()
for _, text in ipairs(ARGV) do
  local item = cjson.decode(text)
  local id = item[1]
  if call('EXISTS', image(id)) == 0 and not trace(id) then
    for field, value in pairs(item[3]) do
      if field ~= 'redo' then
        call('HSET', image(id), field, value)
      elseif call('HEXISTS', ORDERS, value) == 1 then -- without its order it is made as any other
        call('HSET', image(id), 'redo', value)
        call('HINCRBY', ORDERED, value, 1)
      end
    end
    call('HSET', image(id), 'state', 'waiting', 'again', 1)
    call('ZADD', WAITING, at + item[2], id)
  end
end
return 1
