-- ARGV: reason, seconds for which who works on an image now may still land it, '1' where the store has an object of
-- each, id, id, …
-- Returns for each 1: it is forgotten now, 3: and somebody had it in hand, 2: it was before, 0: nobody knows it.
local reason, late, stored = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local at = clock()

-- Takes an image out of where it is. Whether it was anywhere, and whether somebody may still be landing it.
local function take_out(id)
  local now = call('HMGET', image(id), 'state', 'again')
  if now[1] then
    for _, place in ipairs({QUEUED, WAITING, SUSPECTS, LEASED}) do
      call('ZREM', place, id)
    end
    end_order(id)
    call('DEL', image(id))
    return true, was_in_hand(now[1], now[2])
  end
  local mark = trace(id)
  if mark then
    remove_trace(id)
    local state = STATES[mark:sub(1, 1)]
    if not remove_letter(id) then
      call('HINCRBY', COUNTS, state, -1)
    end
    if state == 'landed' then
      call('HINCRBY', COUNTS, FORGOTTEN_LANDED, 1)
    end
    return true, false
  end
  if not stored then
    return false, false
  end
  if tonumber(call('HGET', COUNTS, LET_GO) or 0) > 0 then -- it is counted as landed still
    call('HINCRBY', COUNTS, LET_GO, -1)
    call('HINCRBY', COUNTS, 'landed', -1)
    call('HINCRBY', COUNTS, FORGOTTEN_LANDED, 1)
  else
    call('HINCRBY', COUNTS, 'seen', 1)
  end
  return true, false
end

local answers = {}
for position = 4, #ARGV do
  local id = ARGV[position]
  local mark = trace(id)
  local answer = 0
  if mark and mark:sub(1, 1) == FORGOTTEN then
    answer = 2
  else
    local was, in_hand = take_out(id)
    if was then
      answer = 1
      drop_outputs(id)
      leave_trace(id, FORGOTTEN)
      call('HINCRBY', COUNTS, 'forgotten', 1)
      call('HINCRBY', COUNTS, 'forgotten:' .. reason, 1)
      if in_hand then
        answer = 3
        delete_from_store(id, late)
      end
    end
  end
  if answer > 0 then
    call('ZADD', FORGETTING, at, id)
  end
  answers[#answers + 1] = answer
end
return answers
