-- ARGV: id, id, …   Returns what is to be known of each image, at one moment: {'image', outputs kept (0 or 1), seconds
-- until it is due, field, value, …}, {'letter', outputs kept, JSON, cause, when, since ('' where not transient), seconds
-- that it is kept, its trace's letter}, {'ended', trace} or {'gone'}.
local at = clock()
local told = {}
for i, id in ipairs(ARGV) do
  local fields, mark = call('HGETALL', image(id)), trace(id)
  local letter, when = call('GET', 'dlq:' .. id), call('ZSCORE', DEAD_TIME, id)
  if #fields > 0 then
    local due = math.max(0, tonumber(call('ZSCORE', WAITING, id) or 0) - at)
    told[i] = {'image', call('EXISTS', outputs(id)), string.format('%.3f', due), unpack(fields)}
  elseif letter and when then
    local cause, since = call('HGET', DEAD_CAUSES, id) or '', call('ZSCORE', DEAD_TRANSIENT, id) or ''
    told[i] = {'letter', call('EXISTS', outputs(id)), letter, cause, when, since, call('TTL', 'dlq:' .. id),
      mark and mark:sub(1, 1) or 'd'}
  elseif mark then
    told[i] = {'ended', mark}
  else
    told[i] = {'gone'}
  end
end
return told
