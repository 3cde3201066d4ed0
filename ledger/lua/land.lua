-- ARGV: id, token   Returns 1, or 0 when the lease is lost.
local id = ARGV[1]
if not owned(id, ARGV[2]) then
  if STATES[(trace(id) or ''):sub(1, 1)] == 'skipped' then -- cancelled meanwhile, most likely
    call('ZADD', FORGETTING, clock(), id)
  else
    delete_if_unwanted(id)
  end
  return 0
end
finish(id, 'l')
drop_outputs(id)
call('HINCRBY', COUNTS, 'landed', 1)
note_change(id)
-- What landed last, newest first, for people who watch: cut now and then, not at every landing.
local entry = id .. ' ' .. string.format('%.3f', clock())
if call('LPUSH', RECENT, entry) > 600 then
  call('LTRIM', RECENT, 0, 499)
end
to_be_looked_at(entry)
return 1
