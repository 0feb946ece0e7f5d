/**
 * MONITOR, SLOWLOG and LATENCY: which commands run, and which were slow.
 */
import type { Command, CommandFlag } from '../command/command.ts';
import { HISTOGRAM_BUCKETS } from '../command/command-statistics.ts';
import type { CommandEntry } from '../command/command-table.ts';
import type { ClientSession } from '../connection/client-session.ts';
import { replyHelp, wrongArity } from './common.ts';

const ADMIN: readonly CommandFlag[] = ['admin', 'noscript', 'loading', 'stale'];
const SLOWLOG: readonly CommandFlag[] = ['admin', 'loading', 'stale'];

function sub(
  name: string,
  arity: number,
  since: string,
  summary: string,
  run: (session: ClientSession) => void,
  // SLOWLOG has no flag noscript, LATENCY has.
  flags: readonly CommandFlag[] = name.startsWith('slowlog') ? SLOWLOG : ADMIN,
): Command<ClientSession> {
  return { name, arity, flags, group: 'server', since, summary, run };
}

export const monitoringCommands: readonly Command<ClientSession>[] = [
  {
    name: 'monitor',
    arity: 1,
    flags: ADMIN,
    group: 'server',
    since: '1.0.0',
    summary: 'Shows every command that the server runs, as it runs it.',
    run: monitor,
  },
  {
    name: 'slowlog',
    arity: -2,
    flags: [],
    group: 'server',
    since: '2.2.12',
    summary: 'A container for slow log commands.',
    subcommands: [
      sub('slowlog|get', -2, '2.2.12', "Returns the slow log's entries.", slowlogGet),
      sub('slowlog|help', 2, '6.2.0', 'Shows helpful text about the subcommands.', slowlogHelp, [
        'loading',
        'stale',
      ]),
      sub('slowlog|len', 2, '2.2.12', 'Returns the number of entries in the slow log.', (session) =>
        session.reply.integer(session.server.slowlog.entries.length),
      ),
      sub('slowlog|reset', 2, '2.2.12', 'Clears all entries from the slow log.', (session) => {
        session.server.slowlog.clear();
        session.reply.ok();
      }),
    ],
  },
  {
    name: 'latency',
    arity: -2,
    flags: [],
    group: 'server',
    since: '2.8.13',
    summary: 'A container for latency diagnostics commands.',
    subcommands: [
      sub('latency|doctor', 2, '2.8.13', 'Returns a human-readable latency analysis.', doctor),
      sub('latency|help', 2, '2.8.13', 'Returns helpful text about the subcommands.', latencyHelp, [
        'loading',
        'stale',
      ]),
      sub(
        'latency|histogram',
        -2,
        '7.0.0',
        'Returns the distribution of latencies of a subset or all commands.',
        histogram,
      ),
      sub('latency|history', 3, '2.8.13', 'Returns time-latency samples for an event.', history),
      sub(
        'latency|latest',
        2,
        '2.8.13',
        'Returns the latest latency samples for all events.',
        latest,
      ),
      sub(
        'latency|reset',
        -2,
        '2.8.13',
        'Resets the latency data for one or more events.',
        (session) => {
          const { args, reply } = session;
          const names: string[] = [];
          for (let i = 2; i < args.count; i++) names.push(args.text(i));
          reply.integer(session.server.latency.reset(names));
        },
      ),
    ],
  },
];

function monitor(session: ClientSession): void {
  const { monitors } = session.server;
  if (session.denyBlocking) {
    session.reply.error("ERR MONITOR isn't allowed for DENY BLOCKING client");
  } else if (!monitors.has(session)) {
    // A second MONITOR has no reply, as in Redis.
    monitors.add(session);
    session.reply.ok();
  }
}

function slowlogGet(session: ClientSession): void {
  const { args, reply } = session;
  let count = 10;
  if (args.count > 3) {
    wrongArity(session, 'slowlog|get');
    return;
  }
  if (args.count === 3) {
    const given = args.integer(2);
    if (given === null || given < -1) {
      reply.error('ERR count should be greater than or equal to -1');
      return;
    }
    count = given;
  }
  const { entries } = session.server.slowlog;
  const shown = count === -1 ? entries : entries.slice(0, count);
  reply.array(shown.length);
  for (const entry of shown) {
    reply.array(6);
    reply.integer(entry.id);
    reply.integer(entry.at);
    reply.integer(entry.microseconds);
    reply.array(entry.args.length);
    for (const arg of entry.args) reply.bulk(arg);
    reply.bulkText(entry.address);
    reply.bulkText(entry.clientName);
  }
}

function latest(session: ClientSession): void {
  const { reply } = session;
  const { events } = session.server.latency;
  reply.array(events.size);
  for (const [name, { samples, max }] of events) {
    const last = samples.at(-1)!;
    reply.array(4);
    reply.bulkText(name);
    reply.integer(last.at);
    reply.integer(last.milliseconds);
    reply.integer(max);
  }
}

function history(session: ClientSession): void {
  const { args, reply } = session;
  const samples = session.server.latency.events.get(args.text(2))?.samples ?? [];
  reply.array(samples.length);
  for (const { at, milliseconds } of samples) {
    reply.array(2);
    reply.integer(at);
    reply.integer(milliseconds);
  }
}

function doctor(session: ClientSession): void {
  const { latency } = session.server;
  if (latency.threshold === 0) {
    session.reply.verbatim(
      'Latency monitoring is disabled. Turn it on with "CONFIG SET latency-monitor-threshold <milliseconds>".\n',
    );
    return;
  }
  if (latency.events.size === 0) {
    session.reply.verbatim(
      `No command has taken ${latency.threshold} ms or longer since monitoring was turned on.\n`,
    );
    return;
  }
  let text = 'Latency spikes were seen:\n\n';
  let n = 1;
  for (const [name, { samples, max }] of latency.events) {
    const total = samples.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
    text += `${n++}. ${name}: ${samples.length} spikes (average ${Math.round(total / samples.length)} ms, worst ${max} ms).\n`;
  }
  text +=
    '\nSLOWLOG GET names the slow commands; the checkpoint runs in slices of 2 ms and does not stall.\n';
  session.reply.verbatim(text);
}

/** Cumulative counts per power of two, as Redis shows them. */
function histogram(session: ClientSession): void {
  const { args, reply } = session;
  const { table } = session.server;
  const wanted: CommandEntry[] = [];
  if (args.count === 2) wanted.push(...table.entries);
  for (let i = 2; i < args.count; i++) {
    const entry = table.byName(args.text(i));
    if (entry === null) continue;
    wanted.push(entry, ...(entry.subcommands?.all ?? []));
  }
  const called = wanted.filter((entry) => entry.statistics.calls > 0);
  reply.map(called.length);
  for (const { name, statistics } of called) {
    reply.bulkText(name);
    reply.map(2);
    reply.bulkText('calls');
    reply.integer(statistics.calls);
    reply.bulkText('histogram_usec');
    const mark = reply.deferred();
    let seen = 0;
    let pairs = 0;
    for (let i = 0; i < HISTOGRAM_BUCKETS; i++) {
      const count = statistics.histogram[i]!;
      if (count === 0) continue;
      seen += count;
      pairs++;
      reply.integer(2 ** i);
      reply.integer(seen);
    }
    reply.setLength(mark, pairs, 'map');
  }
}

function slowlogHelp(session: ClientSession): void {
  replyHelp(session, 'SLOWLOG', [
    'GET [<count>]',
    '    Return top <count> entries from the slowlog (default: 10, -1 mean all).',
    '    Entries are made of:',
    '    id, timestamp, time in microseconds, arguments array, client IP and port,',
    '    client name',
    'LEN',
    '    Return the length of the slowlog.',
    'RESET',
    '    Reset the slowlog.',
  ]);
}

function latencyHelp(session: ClientSession): void {
  replyHelp(session, 'LATENCY', [
    'DOCTOR',
    '    Return a human readable latency analysis report.',
    'HISTORY <event>',
    '    Return time-latency samples for the <event> class.',
    'LATEST',
    '    Return the latest latency samples for all events.',
    'RESET [<event> ...]',
    '    Reset latency data of one or more <event> classes.',
    '    (default: reset all data for all event classes)',
    'HISTOGRAM [COMMAND ...]',
    '    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.',
    '    If no commands are specified then all histograms are replied.',
  ]);
}
