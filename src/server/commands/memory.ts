/**
 * MEMORY: how much memory a key and the process use.
 */
import type { KeyEntry } from '../../engine/keyspace/key-entry.ts';
import { roomOf } from '../../engine/keyspace/string-value.ts';
import type { StreamValue } from '../../engine/streams/stream-value.ts';
import type { Command } from '../command/command.ts';
import { keyAt } from '../command/key-specs.ts';
import type { ClientSession } from '../connection/client-session.ts';
import { memoryOverhead } from '../observability/memory-overhead.ts';
import { NOT_AN_INTEGER, replyHelp, SYNTAX } from './common.ts';

export const memoryCommands: readonly Command<ClientSession>[] = [
  {
    name: 'memory',
    arity: -2,
    flags: [],
    group: 'server',
    since: '4.0.0',
    summary: 'A container for memory diagnostics commands.',
    subcommands: [
      {
        name: 'memory|doctor',
        arity: 2,
        flags: [],
        group: 'server',
        since: '4.0.0',
        summary: 'Outputs a memory problems report.',
        run: doctor,
      },
      {
        name: 'memory|help',
        arity: 2,
        flags: ['loading', 'stale'],
        group: 'server',
        since: '4.0.0',
        summary: 'Returns helpful text about the different subcommands.',
        run: (session) =>
          replyHelp(session, 'MEMORY', [
            'DOCTOR',
            '    Return memory problems reports.',
            'PURGE',
            '    Attempt to give memory back that is not in use.',
            'STATS',
            '    Return information about the memory usage of the server.',
            'USAGE <key> [SAMPLES <count>]',
            '    Return memory in bytes used by <key> and its value. Nested values are',
            '    sampled up to <count> times (default: 5, 0 means sample all).',
          ]),
      },
      {
        name: 'memory|purge',
        arity: 2,
        flags: [],
        group: 'server',
        since: '4.0.0',
        summary: 'Asks for memory that is not in use to be given back.',
        run: (session) => {
          session.server.memory.purge();
          session.reply.ok();
        },
      },
      {
        name: 'memory|stats',
        arity: 2,
        flags: [],
        group: 'server',
        since: '4.0.0',
        summary: 'Returns details about memory usage.',
        run: stats,
      },
      {
        name: 'memory|usage',
        arity: -3,
        flags: ['readonly'],
        keys: keyAt(2, 'RO'),
        group: 'server',
        since: '4.0.0',
        summary: 'Estimates the memory usage of a key.',
        complexity: 'O(number of groups)',
        run: usage,
      },
    ],
  },
];

// Bytes of objects besides their contents, measured on V8 12 (64-bit, pointer compression off).
const KEY_BYTES = 250;
const EXPIRY_BYTES = 40;
const STREAM_BYTES = 1200;
const GROUP_BYTES = 1000;
const CONSUMER_BYTES = 200;
const PENDING_BYTES = 27;

function usage(session: ClientSession): void {
  const { args, reply } = session;
  for (let i = 3; i < args.count; i += 2) {
    // Everything is counted, whatever the number of samples; the argument is checked only.
    if (!args.is(i, 'SAMPLES') || i + 1 >= args.count) {
      reply.error(SYNTAX);
      return;
    }
    const samples = args.integer(i + 1);
    if (samples === null) {
      reply.error(NOT_AN_INTEGER);
      return;
    }
    if (samples < 0) {
      reply.error(SYNTAX);
      return;
    }
  }
  const entry = session.database.find(args, 2);
  if (entry === undefined) reply.null();
  else reply.integer(memoryOf(entry));
}

/** Resident bytes of a key, estimated; what lives only in the checkpoint is not counted. */
export function memoryOf(entry: KeyEntry): number {
  const { key, value } = entry;
  const own = KEY_BYTES + key.length;
  return own + (value.type === 'string' ? roomOf(value) : streamMemory(value));
}

function streamMemory(value: StreamValue): number {
  let bytes = STREAM_BYTES + value.stream.heldBytes;
  for (const group of value.groups.values()) {
    bytes += GROUP_BYTES + group.consumerCount * CONSUMER_BYTES;
    bytes += group.pending.size * PENDING_BYTES;
  }
  return bytes;
}

function stats(session: ClientSession): void {
  const { reply, engine, server } = session;
  const { used, rss, heap, heapTotal } = server.memory.report();
  const active = used + heapTotal - heap;
  let keys = 0;
  for (const database of engine.databases) keys += database.size;
  const { clients, log, total: overhead } = memoryOverhead(server);
  const data = Math.max(0, used - overhead);
  const fields: [string, number, 'integer' | 'double'][] = [
    ['peak.allocated', Math.max(used, server.statistics.peakMemory), 'integer'],
    ['total.allocated', used, 'integer'],
    ['startup.allocated', server.startMemory, 'integer'],
    ['replication.backlog', 0, 'integer'],
    ['clients.slaves', 0, 'integer'],
    ['clients.normal', clients, 'integer'],
    ['cluster.links', 0, 'integer'],
    ['aof.buffer', log, 'integer'],
    ['lua.caches', 0, 'integer'],
    ['functions.caches', 0, 'integer'],
    ['overhead.db.hashtable.lut', 0, 'integer'],
    ['overhead.db.hashtable.rehashing', 0, 'integer'],
    ['overhead.total', overhead, 'integer'],
    ['db.dict.rehashing.count', 0, 'integer'],
    ['keys.count', keys, 'integer'],
    ['keys.bytes-per-key', keys === 0 ? 0 : Math.round(data / keys), 'integer'],
    ['dataset.bytes', data, 'integer'],
    ['dataset.percentage', (100 * data) / Math.max(1, used - server.startMemory), 'double'],
    ['peak.percentage', (100 * used) / Math.max(used, server.statistics.peakMemory), 'double'],
    // V8 is the allocator: its pages are what is active, the whole process what is resident.
    ['allocator.allocated', used, 'integer'],
    ['allocator.active', active, 'integer'],
    ['allocator.resident', rss, 'integer'],
    ['allocator.muzzy', 0, 'integer'],
    ['allocator-fragmentation.ratio', active / used, 'double'],
    ['allocator-fragmentation.bytes', active - used, 'integer'],
    ['allocator-rss.ratio', rss / active, 'double'],
    ['allocator-rss.bytes', rss - active, 'integer'],
    ['rss-overhead.ratio', 1, 'double'],
    ['rss-overhead.bytes', 0, 'integer'],
    ['fragmentation', rss / used, 'double'],
    ['fragmentation.bytes', rss - used, 'integer'],
  ];
  const databases = engine.databases.filter(({ size }) => size > 0);
  reply.map(fields.length + databases.length);
  for (const { index, size, keyspace } of databases) {
    reply.bulkText(`db.${index}`);
    reply.map(2);
    reply.bulkText('overhead.hashtable.main');
    reply.integer(size * KEY_BYTES);
    reply.bulkText('overhead.hashtable.expires');
    reply.integer(keyspace.expiring.size * EXPIRY_BYTES);
  }
  for (const [name, value, kind] of fields) {
    reply.bulkText(name);
    if (kind === 'integer') reply.integer(value);
    else reply.double(value);
  }
}

function doctor(session: ClientSession): void {
  const { server } = session;
  const { used, rss } = server.memory.report();
  const limit = server.config.number('maxmemory');
  const found: string[] = [];
  if (limit > 0 && used > limit * 0.9) {
    found.push(`Memory in use is ${Math.round((100 * used) / limit)}% of maxmemory.`);
  }
  if (rss > used * 2 && rss > 512 * 1024 * 1024) {
    found.push('The process holds more than twice the memory in use: a peak has passed.');
  }
  for (const client of server.connections.values()) {
    if (client.output.pending > 8 * 1024 * 1024) {
      found.push(`Client ${client.id} (${client.address}) does not read its replies.`);
    }
  }
  session.reply.verbatim(
    found.length === 0 ? 'No memory problem was found.\n' : `${found.join('\n')}\n`,
  );
}
