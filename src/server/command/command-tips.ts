/**
 * The tips of COMMAND INFO: what a client of several nodes does with a command and its reply, and whether
 * two servers may reply differently. Redis's words, by the name of the command; a command that is not
 * listed has none.
 * Source: https://redis.io/docs/latest/develop/reference/command-tips/
 */
const TIPS: readonly (readonly [tips: readonly string[], commands: string])[] = [
  [
    ['request_policy:all_nodes', 'response_policy:all_succeeded'],
    'acl|deluser acl|save acl|setuser client|setinfo client|setname config|resetstat config|rewrite config|set script|flush slowlog|reset',
  ],
  [
    ['nondeterministic_output'],
    'client|info client|list cluster|info cluster|nodes cluster|shards cluster|slots dump lastsave object|encoding object|freq object|idletime object|refcount pttl time ttl xadd xautoclaim xclaim xinfo|consumers xpending xtrim',
  ],
  [
    ['nondeterministic_output_order'],
    'command command|docs command|info command|list function|list module|list',
  ],
  [['request_policy:all_shards', 'response_policy:agg_sum'], 'dbsize'],
  [['request_policy:multi_shard', 'response_policy:agg_sum'], 'del exists touch unlink'],
  [
    ['request_policy:all_shards', 'response_policy:all_succeeded'],
    'flushall flushdb function|flush memory|purge ping',
  ],
  [
    ['nondeterministic_output', 'request_policy:all_shards', 'response_policy:special'],
    'info memory|doctor memory|stats',
  ],
  [['request_policy:all_shards', 'nondeterministic_output_order'], 'keys'],
  [
    ['nondeterministic_output', 'request_policy:all_nodes', 'response_policy:special'],
    'latency|doctor latency|histogram latency|history latency|latest',
  ],
  [['request_policy:all_nodes', 'response_policy:agg_sum'], 'latency|reset'],
  [['request_policy:multi_shard'], 'mget'],
  [['request_policy:multi_shard', 'response_policy:all_succeeded'], 'mset'],
  [
    ['request_policy:all_shards', 'response_policy:special', 'nondeterministic_output'],
    'randomkey',
  ],
  [['nondeterministic_output', 'request_policy:special', 'response_policy:special'], 'scan'],
  [['request_policy:all_shards', 'response_policy:agg_logical_and'], 'script|exists'],
  [['request_policy:all_nodes', 'nondeterministic_output'], 'slowlog|get'],
  [
    ['request_policy:all_nodes', 'response_policy:agg_sum', 'nondeterministic_output'],
    'slowlog|len',
  ],
  [['request_policy:all_shards', 'response_policy:agg_min'], 'wait waitaof'],
];

const BY_NAME = new Map(
  TIPS.flatMap(([tips, commands]) => commands.split(' ').map((name) => [name, tips] as const)),
);

export function commandTips(name: string): readonly string[] {
  return BY_NAME.get(name) ?? [];
}
