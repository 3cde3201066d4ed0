-- ARGV: seconds for which who had an image in hand may still land it, id, id, …
-- Returns the positions (from 0) of those that were queued or waiting; they are skipped now, and one that had landed and
-- was to be made or to land again has landed, as before: the store has its older object still. A message that carries one
-- may still be on the broker's list: who takes it finds the image finished. What of the others somebody had in hand is
-- deleted from the store, which may have taken it.
local late, cancelled = tonumber(ARGV[1]), {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local now = call('HMGET', image(id), 'state', 'backfill', 'redo', 'again', 'landed')
  if now[1] == 'queued' or now[1] == 'waiting' then
    if call('ZREM', QUEUED, id) + call('ZREM', WAITING, id) + call('ZREM', SUSPECTS, id) > 0 then
      end_order(id)
      call('DEL', image(id))
      drop_outputs(id)
      local landed = now[3] or now[5]
      leave_trace(id, landed and 'l' or 's')
      call('HINCRBY', COUNTS, landed and 'landed' or 'skipped', 1)
      if not landed then
        call('HINCRBY', COUNTS, 'skipped:cancelled', 1)
        if was_in_hand(now[1], now[4]) then
          delete_from_store(id, late)
        end
      end
      if now[2] then
        call('SREM', backfill_images(now[2]), id)
        call('HINCRBY', backfill(now[2]), 'cancelled', 1)
      end
      cancelled[#cancelled + 1] = i - 2
    end
  end
end
return cancelled
