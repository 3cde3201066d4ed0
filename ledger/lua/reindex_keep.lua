-- ARGV: state, '1' where it begins   Keeps how far a reindex is. Returns 1, or 0 where none is under way any more (or
-- one is already, where it begins).
if (call('EXISTS', REINDEX) == 1) == (ARGV[2] == '1') then
  return 0
end
call('SET', REINDEX, ARGV[1])
return 1
