/**
 * Commands and categories that Redis 7 and 8 have and this server does not. An ACL rule or a rename of one
 * is accepted, so that a file written for Redis can be used: allowing or denying a command that does not
 * exist here has no effect. A name that neither server has is refused as a mistake.
 */

const NAMES = new Set(
  `
  bitcount bitfield bitfield_ro bitop bitpos blmove blmpop blpop brpop brpoplpush bzmpop bzpopmax
  bzpopmin cluster|addslots cluster|addslotsrange cluster|bumpepoch cluster|count-failure-reports
  cluster|countkeysinslot cluster|delslots cluster|delslotsrange cluster|failover
  cluster|flushslots cluster|forget cluster|getkeysinslot cluster|links cluster|meet
  cluster|migration cluster|myshardid cluster|replicas cluster|replicate cluster|reset
  cluster|saveconfig cluster|set-config-epoch cluster|setslot cluster|slaves cluster|slot-stats
  cluster|syncslots  eval eval_ro evalsha evalsha_ro failover fcall fcall_ro
  function|delete function|dump function|help function|kill function|load function|restore
  function|stats gcra geoadd geodist geohash geopos georadius georadius_ro georadiusbymember
  georadiusbymember_ro geosearch geosearchstore getbit hdel hexists hexpire hexpireat hexpiretime
  hget hgetall hgetdel hgetex hincrby hincrbyfloat hkeys hlen hmget hmset hotkeys hotkeys|get
  hotkeys|help hotkeys|reset hotkeys|start hotkeys|stop hpersist hpexpire hpexpireat hpexpiretime
  hpttl hrandfield hscan hset hsetex hsetnx hstrlen httl hvals latency|graph
  lindex linsert llen lmove lmpop lolwut lpop lpos lpush lpushx lrange lrem lset ltrim
  memory|malloc-stats migrate module|load module|loadex module|unload pfadd pfcount pfdebug
  pfmerge pfselftest psync replconf replicaof restore-asking rpop rpoplpush rpush rpushx sadd
  scard script|debug script|help script|kill script|load sdiff sdiffstore setbit sflush
  sinter sintercard sinterstore sismember slaveof smembers smismember smove sort sort_ro spop
  srandmember srem sscan sunion sunionstore sync trimslots vadd vcard vdim vemb vgetattr
  vinfo vismember vlinks vrandmember vrange vrem vsetattr vsim zadd zcard zcount zdiff zdiffstore
  zincrby zinter zintercard zinterstore zlexcount zmpop zmscore zpopmax zpopmin zrandmember zrange
  zrangebylex zrangebyscore zrangestore zrank zrem zremrangebylex zremrangebyrank zremrangebyscore
  zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion zunionstore
  `
    .trim()
    .split(/\s+/),
);

/** Commands of the modules that Redis 8 includes: JSON.GET, FT.SEARCH. */
const OF_MODULES =
  /^(json|ft|_ft|ts|timeseries|bf|cf|cms|topk|tdigest|search)\.[a-z0-9_.]+(\|[a-z0-9_]+)?$/;

/** `name` in lower case; a subcommand's is `script|load`. */
export function isForeignCommand(name: string): boolean {
  return NAMES.has(name) || OF_MODULES.test(name);
}

export const FOREIGN_CATEGORIES: ReadonlySet<string> = new Set([
  'search',
  'json',
  'timeseries',
  'bloom',
  'cuckoo',
  'cms',
  'topk',
  'tdigest',
]);
