-- ARGV: JSON [id, seconds until it is due, {field: value}], …   Puts images of a back-up where they wait, whatever they
-- were doing then: nobody has a lease or a message of them any more. No count changes.
local at = clock()
for _, text in ipairs(ARGV) do
  local item = cjson.decode(text)
  local id = item[1]
  if call('EXISTS', image(id)) == 0 and not trace(id) then
    for field, value in pairs(item[3]) do
      if field ~= 'redo' then -- its order is not in the back-up: it is made as any other
        call('HSET', image(id), field, value)
      end
    end
    call('HSET', image(id), 'state', 'waiting', 'again', 1)
    call('ZADD', WAITING, at + item[2], id)
  end
end
return 1
