-- ARGV: id, token, letter, cause, kind, when, seconds to keep it   Returns 1, or 0 when the lease is lost.
local id = ARGV[1]
if not owned(id, ARGV[2]) then
  return 0
end
local since = call('HGET', image(id), 'died')
finish(id, call('HEXISTS', image(id), 'redo') == 1 and 'r' or 'd')
if ARGV[5] ~= 'transient' then -- such a letter is soon tried again by itself
  drop_outputs(id)
end
keep_letter(id, ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], since)
return 1
