/**
 * What all connections of one server share: engine, configuration, command table, users, counters,
 * and the end of a turn, where replies leave and the log is flushed.
 *
 * Invariant: whoever runs commands (a received chunk, a tick, an unblocked client) calls `settled`
 * afterwards; then every connection that something was written to is flushed, and the log's flush
 * is due once in this turn of the event loop.
 */
import { randomBytes } from 'node:crypto';
import type { Engine } from '../engine/engine.ts';
import { Acl } from './acl.ts';
import { BackgroundFailures } from './background-failures.ts';
import { BufferPool } from './buffer-pool.ts';
import type { Command } from './command.ts';
import { CommandTable } from './command-table.ts';
import type { Config } from './config.ts';
import { type OutputLimit, outputLimit } from './config-values.ts';
import type { Connection } from './connection.ts';
import { Departures } from './departures.ts';
import { applyEngineSettings, ENGINE_SETTINGS } from './engine-settings.ts';
import { LatencyMonitor } from './latency-monitor.ts';
import type { Logger } from './logger.ts';
import { MemoryPressure } from './memory-pressure.ts';
import { Monitors } from './monitors.ts';
import type { Persistence } from './persistence.ts';
import { SafeWaiters } from './safe-waiters.ts';
import { ServerStatistics } from './server-statistics.ts';
import { Slowlog } from './slowlog.ts';
import { TimeOfDay } from './time-of-day.ts';

const REPLY_BUFFER = 16 * 1024;
const REPLY_BUFFERS_KEPT = 256;
const NOTICE_MS = 0.2;
const OUTPUT_NOTICE = 256 * 1024;
/** How long a reply that is in no hurry waits for other bytes to leave with. */
const COMPANY_MS = 1;
/** Log bytes not yet on disk beyond which no client's input is read; less where memory is limited. */
const BACKLOG_MAX = 64 * 1024 * 1024;
const BACKLOG_SHARE = 1 / 16;

export interface Pause {
  /** Monotonic ms. */
  until: number;
  writesOnly: boolean;
}

export class ServerState {
  readonly engine: Engine;
  readonly config: Config;
  readonly table: CommandTable;
  readonly acl: Acl;
  readonly log: Logger;
  readonly persistence: Persistence;
  readonly timeOfDay: TimeOfDay;
  /** What failed outside a command. */
  readonly failures: BackgroundFailures;
  /** What HTTP tells waits here, as replies do. */
  readonly safeWaiters: SafeWaiters;
  readonly statistics = new ServerStatistics();
  readonly slowlog = new Slowlog();
  readonly latency = new LatencyMonitor();
  readonly pool = new BufferPool(REPLY_BUFFER, REPLY_BUFFERS_KEPT);
  readonly departures = new Departures(
    () => this.mark,
    (error) => this.failures.note('sending to a client', error),
  );
  readonly runId = randomBytes(20).toString('hex');
  /** Unix ms. */
  readonly startedAt = Date.now();
  /** The same by the monotonic clock, for the uptime. */
  readonly startedMonotonic: number;
  /** Bytes in use when the server was ready. */
  startMemory = 0;
  readonly connections = new Map<number, Connection>();
  /** Accepted by a TLS listener, and no clients yet. */
  readonly handshaking = new Set<object>();

  // Copies of configuration values that the dispatch loop reads.
  readonly parserLimits = { bulkMax: 0 };
  queryBufferLimit = 0;
  normalOutput: OutputLimit = { hard: 0, soft: 0, softSeconds: 0 };
  pubsubOutput: OutputLimit = { hard: 0, soft: 0, softSeconds: 0 };
  /** Output of one client beyond which its limits are looked at. */
  outputNotice = OUTPUT_NOTICE;

  readonly monitors = new Monitors(() => this.#setNotice());
  /** Run time (ms) from which a command is worth a closer look; any, while somebody monitors. */
  noticeMs = NOTICE_MS;

  /** CLIENT PAUSE, while it lasts. */
  pause: Pause | null = null;
  /** Whether commands that may add to memory run, wait or are refused. */
  readonly memory: MemoryPressure;
  /** Milliseconds (monotonic) when the last command ended: the next one's start. */
  mark = 0;
  /** Set by the composition; ends the process after replies and log are safe. */
  shutdown: (options: ShutdownOptions) => void = () => {};

  #nextId = 1;
  #backlogMax = BACKLOG_MAX;
  readonly #touched: Connection[] = [];
  #gated: Connection[] = [];
  #stalled: Connection[] = [];
  #flushDue = false;
  #flushed = 0;
  #settleDue = false;
  #settling = false;
  #deadlineTimer: NodeJS.Timeout | null = null;
  #patient: Connection[] = [];
  #patientTimer: NodeJS.Timeout | null = null;
  #deadlineAt = Number.POSITIVE_INFINITY;

  constructor(options: ServerStateOptions) {
    this.engine = options.engine;
    this.startedMonotonic = options.engine.clock.monotonic();
    this.config = options.config;
    this.log = options.log;
    this.timeOfDay = new TimeOfDay(options.engine.clock);
    this.failures = new BackgroundFailures(options.log, () => this.monotonic());
    this.safeWaiters = new SafeWaiters(this.engine.journal);
    this.failures.onNoted = (error) => this.engine.threw(error);
    this.engine.onTrouble = (what, error) => this.failures.note(what, error);
    this.persistence = options.persistence;
    this.acl =
      options.acl ?? new Acl(new CommandTable(options.commands, options.config.renamedCommands));
    this.table = this.acl.table;
    this.memory = new MemoryPressure(this.engine, this.persistence, () => this.monotonic());
    this.#watchConfig();
    this.engine.onDue = (at) => this.wakeAt(at);
  }

  nextId(): number {
    return this.#nextId++;
  }

  /** The numbers up to this one are taken: by clients that came while the data was loaded. */
  continueIds(last: number): void {
    this.#nextId = last + 1;
  }

  /** Random hex digits for ACL GENPASS and the like. */
  randomHex(digits: number): string {
    return randomBytes(Math.ceil(digits / 2))
      .toString('hex')
      .slice(0, digits);
  }

  monotonic(): number {
    return this.engine.clock.monotonic();
  }

  /** Something was written to this connection's reply: it is flushed by the next `settled`. */
  touch(connection: Connection): void {
    this.#touched.push(connection);
    if (this.#settleDue) return;
    this.#settleDue = true;
    setImmediate(this.#settleLate);
  }

  /** This connection has a reply that may wait for company, but not for long. */
  later(connection: Connection): void {
    this.#patient.push(connection);
    this.#patientTimer ??= setTimeout(this.#hurry, COMPANY_MS);
  }

  /** The end of a stretch of commands. */
  settled(): void {
    if (this.#settling) return;
    this.#settling = true;
    const touched = this.#touched;
    // Resuming a connection may run commands that touch others: the list grows while it is walked.
    for (let i = 0; i < touched.length; i++) this.#settle(touched[i]!);
    touched.length = 0;
    this.#settling = false;
    const { journal } = this.engine;
    if (journal.appended !== this.#flushed && !this.#flushDue) {
      this.#flushDue = true;
      setImmediate(this.#flushLog);
    }
  }

  #settle(connection: Connection): void {
    try {
      connection.settle();
    } catch (error) {
      this.failures.note('answering a client', error);
      connection.destroy();
    }
  }

  /** A connection has output that waits for the disk. */
  gate(connection: Connection): void {
    this.#gated.push(connection);
  }

  /** The log's `durable` has risen, or its backlog has become less. */
  durable(): void {
    this.safeWaiters.release();
    const waiting = this.#gated;
    if (waiting.length > 0) {
      this.#gated = [];
      for (const connection of waiting) {
        if (connection.release()) this.#gated.push(connection);
      }
    }
    if (this.#stalled.length > 0 && !this.backlogged) {
      const stalled = this.#stalled;
      this.#stalled = [];
      for (const connection of stalled) connection.resumeLater();
    }
  }

  /** The disk does not keep up: more writes would only fill memory. */
  get backlogged(): boolean {
    return this.persistence.backlog > this.#backlogMax;
  }

  /** Resumes this connection when the backlog has gone. */
  stall(connection: Connection): void {
    this.#stalled.push(connection);
  }

  /** A blocked client's deadline, monotonic ms: the engine's tick must not come later than that. */
  wakeAt(deadline: number): void {
    if (deadline >= this.#deadlineAt) return;
    this.#deadlineAt = deadline;
    if (this.#deadlineTimer !== null) clearTimeout(this.#deadlineTimer);
    const delay = Math.min(Math.max(deadline - this.monotonic(), 0) + 1, 1_000_000_000);
    this.#deadlineTimer = setTimeout(() => {
      this.#deadlineTimer = null;
      this.#deadlineAt = Number.POSITIVE_INFINITY;
      this.failures.attempt('a timer', () => this.tick());
    }, delay);
    this.#deadlineTimer.unref();
  }

  /** The engine's due work, then its consequences. */
  tick(): void {
    this.engine.tick();
    this.settled();
    const next = this.engine.nextDeadline();
    if (next !== Number.POSITIVE_INFINITY) this.wakeAt(next);
  }

  /** CLIENT UNPAUSE, or the pause's end. */
  unpause(): void {
    this.pause = null;
    for (const connection of this.connections.values()) connection.unpaused();
  }

  close(): void {
    if (this.#deadlineTimer !== null) clearTimeout(this.#deadlineTimer);
    this.#deadlineTimer = null;
    if (this.#patientTimer !== null) clearTimeout(this.#patientTimer);
    this.#patientTimer = null;
    this.memory.close();
  }

  readonly #hurry = (): void => {
    this.#patientTimer = null;
    const patient = this.#patient;
    this.#patient = [];
    for (const connection of patient) this.failures.attempt('a timer', () => connection.hurry());
  };

  readonly #settleLate = (): void => {
    this.#settleDue = false;
    this.settled();
  };

  readonly #flushLog = (): void => {
    this.#flushDue = false;
    this.#flushed = this.engine.journal.appended;
    this.failures.attempt('flushing the log', () => this.persistence.flush());
  };

  #setNotice(): void {
    const { threshold } = this.slowlog;
    if (this.monitors.any) this.noticeMs = Number.NEGATIVE_INFINITY;
    else this.noticeMs = threshold < 0 ? NOTICE_MS : Math.min(NOTICE_MS, threshold / 1000);
  }

  #watchConfig(): void {
    const { config } = this;
    config.watch('maxmemory', () => {
      this.memory.limit = config.number('maxmemory');
      this.engine.memory.setMaxMemory(this.memory.limit);
      const share = this.memory.limit === 0 ? BACKLOG_MAX : this.memory.limit * BACKLOG_SHARE;
      this.#backlogMax = Math.min(BACKLOG_MAX, share);
    });
    config.watch('proto-max-bulk-len', () => {
      this.parserLimits.bulkMax = config.number('proto-max-bulk-len');
    });
    config.watch('client-query-buffer-limit', () => {
      this.queryBufferLimit = config.number('client-query-buffer-limit');
    });
    config.watch('client-output-buffer-limit', (value) => {
      this.normalOutput = outputLimit(value, 'normal');
      this.pubsubOutput = outputLimit(value, 'pubsub');
      const { normalOutput: normal, pubsubOutput: pubsub } = this;
      const limits = [normal.hard, normal.soft, pubsub.hard, pubsub.soft].filter((n) => n > 0);
      this.outputNotice = Math.min(OUTPUT_NOTICE, ...limits);
    });
    config.watch('slowlog-log-slower-than', () => {
      this.slowlog.threshold = config.number('slowlog-log-slower-than');
      this.#setNotice();
    });
    config.watch('slowlog-max-len', () => {
      this.slowlog.setMax(config.number('slowlog-max-len'));
    });
    config.watch('latency-monitor-threshold', () => {
      this.latency.threshold = config.number('latency-monitor-threshold');
    });
    for (const name of ENGINE_SETTINGS) {
      config.watch(name, () => applyEngineSettings(this.engine, config));
    }
    config.watch('notify-keyspace-events', (value) => {
      this.engine.notifyOf(value);
    });
    config.watch('acllog-max-len', () => {
      this.acl.logMax = config.number('acllog-max-len');
    });
    config.watch('acl-pubsub-default', (value) => {
      this.acl.allChannelsByDefault = value === 'allchannels';
    });
  }
}

export interface ServerStateOptions {
  readonly engine: Engine;
  readonly config: Config;
  readonly commands: readonly Command[];
  /** The users, where they were read already; `commands` then are those of its table. */
  readonly acl?: Acl;
  readonly log: Logger;
  readonly persistence: Persistence;
}

export interface ShutdownOptions {
  /** false = SHUTDOWN NOSAVE: no checkpoint (the log is flushed all the same). */
  readonly checkpoint: boolean;
}
