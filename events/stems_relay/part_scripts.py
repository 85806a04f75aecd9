"""The Lua scripts that move songs in parts: as those of `scripts`, by the same rules.

A divided song stands in DIVIDED, and its parts that are on their way in a hash of its own, each with its progress. A
part is a job: it waits in PARTS, by its place, or, when it is due only later, in PARTS_LATER. When the last one has
ended, the song goes back in line: whoever gets it then finds in the bucket what was made.

Songs go before parts, but for each part that waits while TURN songs passed: neither side starves, however many long
songs there are. Counted in deliveries: how long these take, on which processor, nobody needs to know.
"""

from stems import moves, naming, news

TURN = 8
# Parts are kept for a day at the least (STEMS_KEEP_PARTS_DAYS).
_KEPT_MS = 24 * 3600 * 1000

_NOW = (
    news.LUA
    + moves.DROP_PARTS
    + moves.SUM
    + """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
)

# A part is not on its way any more; after the last one, its song goes back in line. One that nobody wants any more, as
# its song ended meanwhile, changes nothing.
ENDED = f"""
local function song_returns(song, now)
  redis.call('ZREM', '{naming.DIVIDED}', song)
  local since = tonumber(redis.call('HGET', 'stems:job:' .. song, 'since_ms'))
  redis.call('ZADD', '{naming.WAITING}', since or now, song)
end
local function part_ended(part, song, now)
  local parts = 'stems:parts:' .. song
  if redis.call('HDEL', parts, part) == 1 and redis.call('EXISTS', parts) == 0 then song_returns(song, now) end
end
"""

# A delivery of a song ends with its parts in line, all at the song's place: when what is to be made of it would have
# been played, had somebody begun at its upload. So the shorter song is done first, and of equals the earlier, and who
# has waited for as long as its music takes waits for none that comes then. A song that was cancelled, or uploaded
# again, meanwhile is not divided. How often it was is forgotten where the parts may have expired since.
# KEYS: job hash, delivering set, PARTS, DIVIDED, ATTEMPTS, the song's parts. ARGV: id, delivery, song hash, plan,
# begin, end, how often at most; for each part its id, key, record and place behind the song's upload, ms.
# Returns divided, by this call or by one whose answer was lost; again or cancelled; often (it was divided so often that
# its parts cannot be found when they are made); or stale.
DIVIDE = (
    _NOW
    + """
local id, delivery = ARGV[1], ARGV[2]
local current, since, again, cancel, rounds, divided =
  unpack(redis.call('HMGET', KEYS[1], 'delivery', 'since_ms', 'again', 'cancel', 'rounds', 'divided_ms'))
if delivery ~= current or redis.call('HEXISTS', KEYS[1], 'record') == 0 then return 'stale' end
if redis.call('SISMEMBER', KEYS[2], id) == 0 then
  return redis.call('EXISTS', KEYS[6]) == 1 and 'divided' or 'stale'
end
if again then return 'again' end
if cancel then return 'cancelled' end
if not rounds or not divided or now - divided > """
    + str(_KEPT_MS)
    + """ then rounds = 0 end
if tonumber(rounds) >= tonumber(ARGV[7]) then return 'often' end
redis.call('SREM', KEYS[2], id)
drop_parts(id)
redis.call('HDEL', KEYS[1], 'relay', 'left_s', 'tries')
redis.call('HDEL', KEYS[5], id)
redis.call('HSET', KEYS[1], 'rounds', rounds + 1, 'divided_ms', now)
local count = (#ARGV - 7) / 4
for i = 0, count - 1 do
  local part, key, record, behind = unpack(ARGV, 4 * i + 8, 4 * i + 11)
  local place = (tonumber(since) or now) + behind
  redis.call('HSET', 'stems:job:' .. part, 'state', 'waiting', 'since_ms', place, 'updated_ms', now, 'key', key,
    'record', record)
  redis.call('HSET', KEYS[6], part, 0)
  redis.call('ZADD', KEYS[3], place, part)
end
redis.call('ZADD', KEYS[4], now, id)
redis.call('HSET', KEYS[1], 'state', 'separating', 'songhash', ARGV[3], 'plan', ARGV[4], 'error', '',
  'parts_end', ARGV[6], 'parts_share', (ARGV[6] - ARGV[5]) / count)
sum(id, now)
tell('job', id)
return 'divided'
"""
)

# The answer to the delivery of a part is entered. One that failed for good is the end of its song: a dead letter. One
# that is gone says that the upload, the plan or the sound is: the others leave the line, and its song goes back there.
# KEYS: part hash, delivering set, PARTS, PARTS_LATER, ATTEMPTS, DEAD, job hash of the song, the song's parts; for each
# message its hash and its line. ARGV: part, delivery (empty: whichever it is), state (done, gone, failed or
# waiting), delay_ms (empty: to its place), refund, error, song; for each message its id, key and record.
# Returns the state entered; stale where the part was taken over, or entered anew, or its song wants it no more. One
# that was entered anew may be delivered by another relay by then: this one holds it no more.
SETTLE_PART = (
    _NOW
    + ENDED
    + """
local id, delivery, state, delay, error, song = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[6], ARGV[7]
local current, place, relay = unpack(redis.call('HMGET', KEYS[1], 'delivery', 'since_ms', 'relay'))
if current and delivery ~= '' and delivery ~= current then
  if not relay or KEYS[2] ~= 'stems:delivering:' .. relay then redis.call('SREM', KEYS[2], id) end
  return 'stale'
end
if not current and delivery ~= '' and redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('SREM', KEYS[2], id)
  return 'stale'
end
if redis.call('SREM', KEYS[2], id) == 0 then return 'stale' end
local wanted = redis.call('HEXISTS', KEYS[8], id) == 1
if not wanted or redis.call('HEXISTS', KEYS[1], 'record') == 0 then
  redis.call('DEL', KEYS[1])
  redis.call('HDEL', KEYS[5], id)
  if wanted then part_ended(id, song, now) end
  return 'stale'
end
if state == 'waiting' then
  redis.call('HDEL', KEYS[1], 'relay')
  if ARGV[5] == '1' and redis.call('HINCRBY', KEYS[5], id, -1) <= 0 then redis.call('HDEL', KEYS[5], id) end
  redis.call('HSET', KEYS[1], 'state', state, 'updated_ms', now, 'error', error)
  redis.call('HSET', KEYS[7], 'error', error)
  redis.call('HSET', KEYS[8], id, 0)
  if delay ~= '' then redis.call('ZADD', KEYS[4], now + delay, id)
  else redis.call('ZADD', KEYS[3], tonumber(place) or now, id) end
  sum(song, now)
  return state
end
if state == 'failed' then
  local attempts = redis.call('HGET', KEYS[5], id) or 0
  drop_parts(song)
  for i = 0, (#ARGV - 7) / 3 - 1 do
    local hash, line, id, key, record = KEYS[2 * i + 9], KEYS[2 * i + 10], unpack(ARGV, 3 * i + 8, 3 * i + 10)
    redis.call('HSET', hash, 'state', 'waiting', 'since_ms', now, 'updated_ms', now, 'key', key, 'record', record)
    redis.call('ZADD', line, now, id)
  end
  redis.call('HDEL', KEYS[7], 'rounds')
  redis.call('HSET', KEYS[7], 'state', state, 'updated_ms', now, 'error', error, 'attempts', attempts)
  redis.call('ZADD', KEYS[6], now, song)
  tell('job', song)
  return state
end
redis.call('HSET', KEYS[7], 'error', '')
if state == 'gone' then
  drop_parts(song)
  song_returns(song, now)
  return state
end
redis.call('DEL', KEYS[1])
redis.call('HDEL', KEYS[5], id)
part_ended(id, song, now)
sum(song, now)
return state
"""
)
