-- ARGV: key, owner, milliseconds (0: give it up)   Returns 1 while the owner holds it.
if call('GET', ARGV[1]) ~= ARGV[2] then
  return 0
end
if tonumber(ARGV[3]) == 0 then
  call('DEL', ARGV[1])
else
  call('PEXPIRE', ARGV[1], ARGV[3])
end
return 1
