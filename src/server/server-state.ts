/**
 * What all clients of one server share: engine, configuration, command table, users, counters.
 *
 * Invariant: it knows clients only as views (client-view.ts); how commands run and replies are sent is
 * above it.
 */
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import type { Engine } from '../engine/engine.ts';
import { Acl } from './acl/acl.ts';
import { BackgroundFailures } from './background-failures.ts';
import type { CommandFacts } from './command/command-facts.ts';
import { CommandTable } from './command/command-table.ts';
import type { Config } from './config/config.ts';
import { type OutputLimit, outputLimit } from './config/config-values.ts';
import { applyEngineSettings, ENGINE_SETTINGS } from './config/engine-settings.ts';
import type { ClientView } from './connection/client-view.ts';
import type { Greeting } from './connection/greeting.ts';
import { DurableWaiters } from './durable-waiters.ts';
import { MemoryPressure } from './memory-pressure.ts';
import { LatencyMonitor } from './observability/latency-monitor.ts';
import type { Logger } from './observability/logger.ts';
import { Monitors } from './observability/monitors.ts';
import { ServerStatistics } from './observability/server-statistics.ts';
import { Slowlog } from './observability/slowlog.ts';
import { BufferPool } from './output/buffer-pool.ts';
import { PendingWrites } from './output/pending-writes.ts';
import type { Persistence } from './persistence.ts';
import { TimeOfDay } from './time-of-day.ts';
import { BACKLOG_MAX, TurnScheduler } from './turn-scheduler.ts';

const REPLY_BUFFER = 16 * 1024;
const REPLY_BUFFERS_KEPT = 256;
const NOTICE_MS = 0.2;
const OUTPUT_NOTICE = 256 * 1024;
/** With maxmemory: the share of it that the log's backlog may take. */
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
  /** What HTTP reports waits here, as replies do. */
  readonly durableWaiters: DurableWaiters;
  /** The end of a turn, where replies are sent and the log is flushed. */
  readonly turns: TurnScheduler;
  readonly statistics = new ServerStatistics();
  readonly slowlog = new Slowlog();
  readonly latency = new LatencyMonitor();
  readonly pool = new BufferPool(REPLY_BUFFER, REPLY_BUFFERS_KEPT);
  readonly pendingWrites = new PendingWrites(
    () => this.lastCommandEndedAt,
    (error) => this.failures.note('sending to a client', error),
  );
  readonly runId = randomBytes(20).toString('hex');
  /** Unix ms. */
  readonly startedAt = Date.now();
  /** The same by the monotonic clock, for the uptime. */
  readonly startedMonotonic: number;
  /** Bytes in use when the server was ready. */
  startMemory = 0;
  readonly connections = new Map<number, ClientView>();
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
  /** Run time (ms) from which a command is worth a closer look; any, while a client is in MONITOR mode. */
  noticeMs = NOTICE_MS;

  /** CLIENT PAUSE, while it lasts. */
  pause: Pause | null = null;
  /** Whether commands that may add to memory run, wait or are refused. */
  readonly memory: MemoryPressure;
  /** Monotonic ms when the last command ended: the next one's start. */
  lastCommandEndedAt = 0;
  /** Makes a client of what behaves as a socket. Set by Listeners. */
  connect: (socket: Socket, greeting: Greeting | null) => ConnectedClient = () => {
    throw new Error('this server has no listeners yet');
  };
  /** Set by the composition; ends the process after replies and log are safe. */
  shutdown: (options: ShutdownOptions) => void = () => {};

  #nextId = 1;

  constructor(options: ServerStateOptions) {
    this.engine = options.engine;
    this.startedMonotonic = options.engine.clock.monotonic();
    this.config = options.config;
    this.log = options.log;
    this.timeOfDay = new TimeOfDay(options.engine.clock);
    this.failures = new BackgroundFailures(options.log, () => this.monotonic());
    this.durableWaiters = new DurableWaiters(this.engine.journal);
    this.failures.onNoted = (error) => this.engine.onUnexpectedError(error);
    this.engine.onFailure = (what, error) => this.failures.note(what, error);
    this.persistence = options.persistence;
    this.turns = new TurnScheduler(
      this.engine,
      this.persistence,
      this.failures,
      this.durableWaiters,
    );
    this.acl =
      options.acl ?? new Acl(new CommandTable(options.commands, options.config.renamedCommands));
    this.table = this.acl.table;
    this.memory = new MemoryPressure(this.engine, this.persistence, () => this.monotonic());
    this.#watchConfig();
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

  /** CLIENT UNPAUSE, or the pause's end. */
  unpause(): void {
    this.pause = null;
    for (const connection of this.connections.values()) connection.unpaused();
  }

  close(): void {
    this.turns.close();
    this.memory.close();
  }

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
      this.turns.backlogMax = Math.min(BACKLOG_MAX, share);
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
      this.engine.setKeyspaceEvents(value);
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
  readonly commands: readonly CommandFacts[];
  /** The users, where they were read already; `commands` then are those of its table. */
  readonly acl?: Acl;
  readonly log: Logger;
  readonly persistence: Persistence;
}

/** A client, as what reads from its socket sees it. */
export interface ConnectedClient extends ClientView {
  /** Bytes from the socket; `chunk` may be reused when this returns. */
  receive(chunk: Buffer, length: number): void;
  /** The client has sent its last byte. */
  ended(): void;
  /** The socket has taken everything handed to it. */
  drained(): void;
  /** The socket is closed, for whatever reason. */
  closed(): void;
}

export interface ShutdownOptions {
  /** false = SHUTDOWN NOSAVE: no checkpoint (the log is flushed all the same). */
  readonly checkpoint: boolean;
}
