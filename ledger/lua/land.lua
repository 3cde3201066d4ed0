-- ARGV: id, token   Returns 1, or 0 when the lease is lost.
local id = ARGV[1]
if not owned(id, ARGV[2]) then
  delete_if_forgotten(id)
  return 0
end
finish(id, 'l')
drop_outputs(id)
call('HINCRBY', COUNTS, 'landed', 1)
note_change(id)
-- What landed last, newest first, for people who watch: cut now and then, not at every landing.
local entry = id .. ' ' .. string.format('%.3f', clock())
if call('LPUSH', RECENT, entry) > 400 then
  call('LTRIM', RECENT, 0, 199)
end
-- What standing searches have to look at, oldest first, while there are any: some 25 MB when nobody does for long.
if call('EXISTS', LOOKING) == 1 then
  if call('LLEN', UNLOOKED) < 500000 then
    call('RPUSH', UNLOOKED, entry)
  else
    call('HINCRBY', OVERFLOW, 'count', 1)
    call('HSETNX', OVERFLOW, 'since', clock())
    call('HSET', OVERFLOW, 'until', clock())
    call('EXPIRE', OVERFLOW, 2592000)
  end
end
return 1
