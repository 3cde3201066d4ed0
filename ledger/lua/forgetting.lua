-- ARGV: most entries   Returns how many were looked at, then entry, time, entry, time, … of what is to be deleted from the
-- store now. An image that is on its way again, or has landed again, is none of it and leaves the list: only a back-up
-- that was put back brings a cancelled one there.
local due = call('ZRANGEBYSCORE', FORGETTING, '-inf', clock(), 'WITHSCORES', 'LIMIT', 0, ARGV[1])
local answer = {#due / 2}
for i = 1, #due, 2 do
  local state = (trace((due[i]:gsub('^' .. LATE, ''))) or ''):sub(1, 1)
  if state == FORGOTTEN or state == 's' then
    answer[#answer + 1] = due[i]
    answer[#answer + 1] = due[i + 1]
  else
    call('ZREM', FORGETTING, due[i])
  end
end
return answer
