/**
 * Every configuration parameter: one row each. Flags, configuration files, CONFIG GET / SET /
 * REWRITE and `micro server --help` all read these rows. Names and meanings are Redis's, except the
 * few marked `rivulet`.
 *
 * A row marked `inert` is accepted and remembered because clients, tools and old configuration files
 * name it, but nothing here depends on it (replication, RDB files, encodings that we do not have).
 */

export type Kind = 'yes-no' | 'integer' | 'memory' | 'enum' | 'text' | 'double' | 'special';

export interface Parameter {
  readonly name: string;
  readonly kind: Kind;
  /** As it would stand in a file. */
  readonly default: string;
  /** Whether CONFIG SET may change it; `protected` = only where enable-protected-configs allows. */
  readonly mutable: boolean | 'protected';
  readonly min?: number;
  readonly max?: number;
  readonly values?: readonly string[];
  /** Redis's second name of the same parameter (`slave-...`). */
  readonly alias?: string;
  readonly inert?: boolean;
  readonly rivulet?: boolean;
  /** One line for `micro server --help`; those without are listed by name only. */
  readonly help?: string;
  /** Several lines of a file add up instead of replacing each other. */
  readonly repeats?: boolean;
}

type Extra = Partial<Omit<Parameter, 'name' | 'kind' | 'default'>>;

function row(name: string, kind: Kind, value: string, extra: Extra = {}): Parameter {
  return { name, kind, default: value, mutable: true, ...extra };
}

const yesNo = (name: string, value: 'yes' | 'no', extra?: Extra) =>
  row(name, 'yes-no', value, extra);
const text = (name: string, value = '', extra?: Extra) => row(name, 'text', value, extra);
const choice = (name: string, value: string, values: readonly string[], extra?: Extra) =>
  row(name, 'enum', value, { values, ...extra });
const integer = (name: string, value: number, min: number, max: number, extra?: Extra) =>
  row(name, 'integer', String(value), { min, max, ...extra });
const memory = (name: string, value: number, extra?: Extra) =>
  row(name, 'memory', String(value), { min: 0, ...extra });

const INT = 2_147_483_647;
const UINT = 4_294_967_295;
/** Redis's LLONG_MAX, shown exactly by `rangeText`. */
export const LLONG = 2 ** 63;
const FIXED = { mutable: false } as const;
const INERT = { inert: true } as const;
const INERT_FIXED = { inert: true, mutable: false } as const;

const network: readonly Parameter[] = [
  integer('port', 7488, 0, 65535, {
    ...FIXED,
    help: 'TCP port of the RESP listener; 0 picks a free one',
  }),
  text('bind', '127.0.0.1', { ...FIXED, help: 'addresses to listen on, separated by spaces' }),
  integer('http-port', 7489, 0, 65535, {
    ...FIXED,
    rivulet: true,
    help: 'port of /healthz, /readyz and /metrics; 0 = off',
  }),
  text('http-bind', '', {
    ...FIXED,
    rivulet: true,
    help: 'address of the HTTP listener (as bind)',
  }),
  text('unixsocket', '', { ...FIXED, help: 'path of a unix socket to listen on' }),
  integer('unixsocketperm', 0, 0, 777, FIXED),
  yesNo('protected-mode', 'yes', {
    help: 'without a password serve local clients only',
  }),
  integer('tcp-backlog', 511, 0, INT, FIXED),
  integer('timeout', 0, 0, INT, { help: 'seconds after which idle clients are closed; 0 = never' }),
  integer('tcp-keepalive', 300, 0, INT),
  integer('maxclients', 10000, 1, UINT, { help: 'connections served at the same time' }),
  memory('client-query-buffer-limit', 1024 ** 3, { min: 1024 ** 2 }),
  memory('proto-max-bulk-len', 512 * 1024 ** 2, { min: 1024 ** 2 }),
  row(
    'client-output-buffer-limit',
    'special',
    'normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60',
    { repeats: true },
  ),
  memory('maxmemory-clients', 0),
  integer('metrics-series-limit', 1000, 0, 1_000_000, {
    rivulet: true,
    help: 'streams (and groups) that /metrics lists one by one',
  }),
];

const tls: readonly Parameter[] = [
  integer('tls-port', 0, 0, 65535, { ...FIXED, help: 'TCP port of the TLS listener; 0 = off' }),
  text('tls-cert-file', '', { help: 'certificate (PEM) of the TLS listener' }),
  text('tls-key-file', '', { help: 'its private key (PEM)' }),
  text('tls-key-file-pass'),
  text('tls-ca-cert-file', '', { help: 'authorities that sign client certificates' }),
  text('tls-ca-cert-dir', '', INERT),
  choice('tls-auth-clients', 'yes', ['no', 'yes', 'optional'], FIXED),
  text('tls-protocols'),
  text('tls-ciphers'),
  text('tls-ciphersuites'),
  yesNo('tls-prefer-server-ciphers', 'no'),
  text('tls-dh-params-file', '', INERT),
  yesNo('tls-session-caching', 'yes', INERT),
  integer('tls-session-cache-size', 20480, 0, INT, INERT),
  integer('tls-session-cache-timeout', 300, 0, INT, INERT),
  yesNo('tls-replication', 'no', INERT),
  yesNo('tls-cluster', 'no', INERT),
  text('tls-client-cert-file', '', INERT),
  text('tls-client-key-file', '', INERT),
  text('tls-client-key-file-pass', '', INERT),
];

const durability: readonly Parameter[] = [
  text('dir', './data', { mutable: 'protected', help: 'where log and checkpoint live' }),
  yesNo('appendonly', 'yes', { ...FIXED, help: 'keep a log on disk; no = memory only' }),
  choice('appendfsync', 'always', ['everysec', 'always', 'no'], {
    help: 'when the log reaches the disk: always (before any reply), everysec, no',
  }),
  memory('checkpoint-log-size', 256 * 1024 ** 2, {
    rivulet: true,
    min: 1024 ** 2,
    help: 'log bytes after which a checkpoint starts',
  }),
  memory('log-segment-size', 64 * 1024 ** 2, {
    ...FIXED,
    rivulet: true,
    min: 1024 ** 2,
    help: 'size of one log segment',
  }),
  row('save', 'special', '', { repeats: true }),
  text('dbfilename', 'dump.rdb', { mutable: 'protected', ...INERT }),
  text('appendfilename', 'appendonly.aof', INERT_FIXED),
  text('appenddirname', 'appendonlydir', INERT_FIXED),
  yesNo('no-appendfsync-on-rewrite', 'no', INERT),
  integer('auto-aof-rewrite-percentage', 100, 0, INT, INERT),
  memory('auto-aof-rewrite-min-size', 64 * 1024 ** 2, INERT),
  yesNo('aof-load-truncated', 'yes', INERT),
  yesNo('aof-use-rdb-preamble', 'yes', INERT),
  yesNo('aof-timestamp-enabled', 'no', INERT),
  yesNo('aof-rewrite-incremental-fsync', 'yes', INERT),
  yesNo('aof-disable-auto-gc', 'no', INERT),
  yesNo('rdbcompression', 'yes', INERT),
  yesNo('rdbchecksum', 'yes', INERT_FIXED),
  yesNo('rdb-save-incremental-fsync', 'yes', INERT),
  yesNo('rdb-del-sync-files', 'no', INERT),
  yesNo('stop-writes-on-bgsave-error', 'yes', INERT),
  choice('sanitize-dump-payload', 'no', ['no', 'yes', 'clients'], INERT),
  integer('shutdown-timeout', 10, 0, INT, {
    help: 'seconds that SIGTERM waits for replies to leave',
  }),
];

const data: readonly Parameter[] = [
  integer('databases', 16, 1, 1024, { ...FIXED, help: 'numbered databases' }),
  row('maxmemory', 'memory', '0', {
    min: 0,
    help: 'bytes of memory above which writes are refused and cold blocks leave; 0 = no limit',
  }),
  choice('maxmemory-policy', 'noeviction', ['noeviction']),
  integer('maxmemory-samples', 5, 1, 64, INERT),
  integer('maxmemory-eviction-tenacity', 10, 0, 100, INERT),
  memory('stream-node-max-bytes', 4096, { help: 'bytes of one node of a stream, as Redis counts' }),
  integer('stream-node-max-entries', 100, 0, LLONG, { help: 'entries of one node of a stream' }),
  integer('stream-idmp-duration', 100, 1, 86400, {
    help: 'seconds for which an idempotent id is remembered',
  }),
  integer('stream-idmp-maxsize', 100, 1, 10000, {
    help: 'idempotent ids remembered for each producer',
  }),
  row('notify-keyspace-events', 'special', '', {
    help: 'events of keys that are published: K and/or E, and classes (A for most)',
  }),
  integer('hz', 10, 1, 500, INERT),
  yesNo('dynamic-hz', 'yes', INERT),
  integer('active-expire-effort', 1, 1, 10, INERT),
  yesNo('activerehashing', 'yes', INERT),
  yesNo('activedefrag', 'no', { values: ['no'] }),
  ...(['eviction', 'expire', 'server-del', 'user-del', 'user-flush'] as const).map((what) =>
    yesNo(`lazyfree-lazy-${what}`, 'no', INERT),
  ),
  integer('hash-max-listpack-entries', 512, 0, LLONG, {
    ...INERT,
    alias: 'hash-max-ziplist-entries',
  }),
  memory('hash-max-listpack-value', 64, { ...INERT, alias: 'hash-max-ziplist-value' }),
  integer('list-max-listpack-size', -2, -INT - 1, INT, {
    ...INERT,
    alias: 'list-max-ziplist-size',
  }),
  integer('list-compress-depth', 0, 0, INT, INERT),
  integer('set-max-intset-entries', 512, 0, LLONG, INERT),
  integer('zset-max-listpack-entries', 128, 0, LLONG, {
    ...INERT,
    alias: 'zset-max-ziplist-entries',
  }),
  memory('zset-max-listpack-value', 64, { ...INERT, alias: 'zset-max-ziplist-value' }),
  memory('hll-sparse-max-bytes', 3000, INERT),
  integer('tracking-table-max-keys', 1_000_000, 0, LLONG, INERT),
];

const operation: readonly Parameter[] = [
  choice('loglevel', 'notice', ['debug', 'verbose', 'notice', 'warning', 'nothing'], {
    help: 'debug, verbose, notice or warning',
  }),
  text('logfile', '', { ...FIXED, help: 'file for the log; empty = standard error' }),
  integer('slowlog-log-slower-than', 10000, -1, LLONG, {
    help: 'microseconds; commands that take longer are kept in SLOWLOG',
  }),
  integer('slowlog-max-len', 128, 0, LLONG),
  integer('latency-monitor-threshold', 0, 0, LLONG),
  yesNo('latency-tracking', 'yes'),
  text('latency-tracking-info-percentiles', '50 99 99.9'),
  text('pidfile', '', FIXED),
  yesNo('daemonize', 'no', { ...FIXED, values: ['no'] }),
  choice('supervised', 'no', ['no', 'auto', 'systemd', 'upstart'], INERT_FIXED),
  choice('enable-debug-command', 'no', ['no', 'yes', 'local'], FIXED),
  choice('enable-protected-configs', 'no', ['no', 'yes', 'local'], FIXED),
  choice('enable-module-command', 'no', ['no', 'yes', 'local'], INERT_FIXED),
  yesNo('always-show-logo', 'no', INERT_FIXED),
  yesNo('set-proc-title', 'yes', INERT_FIXED),
  text('proc-title-template', '{title} {listen-addr} {server-mode}', INERT),
  yesNo('crash-log-enabled', 'yes', INERT),
  yesNo('crash-memcheck-enabled', 'yes', INERT),
  yesNo('syslog-enabled', 'no', { ...FIXED, values: ['no'] }),
  text('syslog-ident', 'redis', INERT_FIXED),
  integer('lua-time-limit', 5000, 0, LLONG, { ...INERT, alias: 'busy-reply-threshold' }),
  integer('io-threads', 1, 1, 128, INERT_FIXED),
  yesNo('io-threads-do-reads', 'no', INERT_FIXED),
  choice('oom-score-adj', 'no', ['no', 'yes', 'relative', 'absolute'], INERT),
  text('oom-score-adj-values', '0 200 800', INERT),
  yesNo('disable-thp', 'yes', INERT_FIXED),
  text('ignore-warnings', '', INERT),
];

const access: readonly Parameter[] = [
  text('requirepass', '', { help: 'password of the default user' }),
  text('aclfile', '', { ...FIXED, help: 'file of users, as ACL SAVE writes it' }),
  integer('acllog-max-len', 128, 0, INT),
  choice('acl-pubsub-default', 'resetchannels', ['allchannels', 'resetchannels']),
];

/** What tools ask of a standalone server about replication and cluster. */
const elsewhere: readonly Parameter[] = [
  text('replicaof', '', { ...INERT_FIXED, alias: 'slaveof', values: [''] }),
  text('masterauth', '', INERT),
  text('masteruser', '', INERT),
  yesNo('replica-serve-stale-data', 'yes', { ...INERT, alias: 'slave-serve-stale-data' }),
  yesNo('replica-read-only', 'yes', { ...INERT, alias: 'slave-read-only' }),
  integer('replica-priority', 100, 0, INT, { ...INERT, alias: 'slave-priority' }),
  integer('min-replicas-to-write', 0, 0, 0, { alias: 'min-slaves-to-write' }),
  integer('min-replicas-max-lag', 10, 0, INT, { ...INERT, alias: 'min-slaves-max-lag' }),
  memory('repl-backlog-size', 1024 ** 2, INERT),
  integer('repl-backlog-ttl', 3600, 0, LLONG, INERT),
  integer('repl-timeout', 60, 1, INT, INERT),
  yesNo('repl-diskless-sync', 'yes', INERT),
  integer('repl-diskless-sync-delay', 5, 0, INT, INERT),
  yesNo('repl-disable-tcp-nodelay', 'no', INERT),
  yesNo('cluster-enabled', 'no', { ...INERT_FIXED, values: ['no'] }),
  text('cluster-config-file', 'nodes.conf', INERT_FIXED),
  integer('cluster-node-timeout', 15000, 0, LLONG, INERT),
  yesNo('cluster-require-full-coverage', 'yes', INERT),
];

export const PARAMETERS: readonly Parameter[] = [
  ...network,
  ...durability,
  ...data,
  ...access,
  ...tls,
  ...operation,
  ...elsewhere,
];
