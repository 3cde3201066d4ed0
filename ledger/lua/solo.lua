-- ARGV: id, token   Returns 1 when the image is the only one that is leased; its holder's death counts as one alone then.
local id = ARGV[1]
if not owned(id, ARGV[2]) or call('ZCARD', LEASED) > 1 then
  return 0
end
call('HSET', image(id), 'solo', 1)
return 1
