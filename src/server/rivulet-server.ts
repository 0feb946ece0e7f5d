/**
 * Starts and stops a whole server: data directory, engine, listeners.
 *
 *   start:  configuration -> (HTTP) -> ports that answer LOADING -> data directory recovered ->
 *           RESP listeners on the same ports -> ready
 *   stop:   close the listeners -> send the last replies -> checkpoint -> close the directory
 */
import { randomInt } from 'node:crypto';
import { Engine } from '../engine/engine.ts';
import { NullJournal } from '../storage/log/journal.ts';
import { Random } from '../util/random.ts';
import { systemClock } from '../util/time/clock.ts';
import { Acl } from './acl/acl.ts';
import { runnersOf } from './command/command.ts';
import { CommandTable } from './command/command-table.ts';
import { allCommands } from './commands/index.ts';
import { type Config, shown } from './config/config.ts';
import { type Address, Listeners } from './connection/listener.ts';
import { fitMaxClients, roomForClients } from './file-descriptors.ts';
import { Housekeeping } from './housekeeping.ts';
import { LoadingPorts, LoadingProgress } from './loading.ts';
import type { Health } from './observability/health.ts';
import type { HttpListener } from './observability/http.ts';
import type { Logger } from './observability/logger.ts';
import { memoryInUse } from './observability/memory-use.ts';
import { NoPersistence, type OpenData } from './persistence.ts';
import { ServerState } from './server-state.ts';

/** Descriptors needed while data is loaded: log, checkpoint, lock, listening sockets. */
const LOADING_FILES = 32;
/** How often an ending server looks whether its disk answers. */
const STUCK_CHECK_MS = 50;

export interface StartOptions {
  readonly config: Config;
  readonly log: Logger;
  /**
   * The process should end: after SHUTDOWN, or because the disk has failed. `isStuck`: threads wait for a
   * disk that does not answer, and an orderly exit of the process would wait for them.
   */
  readonly onEnd?: (code: number, isStuck?: boolean) => void;
  /** Called after each part of the log that was loaded. */
  readonly onProgress?: (progress: LoadingProgress) => void;
}

export class RivuletServer {
  readonly state: ServerState;
  readonly addresses: readonly Address[];
  readonly http: HttpListener | null;
  readonly #listeners: Listeners;
  readonly #housekeeping: Housekeeping;
  readonly #data: OpenData;
  #stopping: Promise<void> | null = null;

  private constructor(
    state: ServerState,
    listeners: Listeners,
    housekeeping: Housekeeping,
    data: OpenData,
    http: HttpListener | null,
  ) {
    this.state = state;
    this.addresses = listeners.addresses;
    this.http = http;
    this.#listeners = listeners;
    this.#housekeeping = housekeeping;
    this.#data = data;
  }

  /** Rejects with an Error whose message is one sentence. */
  static async start({ config, log, onEnd, onProgress }: StartOptions): Promise<RivuletServer> {
    config.checkObeyed();
    const health: Health = { reason: 'recovering the data directory' };
    const http = await openHttp(config, health, log);
    const progress = new LoadingProgress(() => systemClock.monotonic(), systemClock.now());
    const others = http === null ? 0 : http.connections;
    let loading: LoadingPorts | null = null;
    let data: OpenData | null = null;
    try {
      const acl = readUsers(config);
      if (config.yes('appendonly')) {
        loading = new LoadingPorts(config, progress, acl, roomForClients(others + LOADING_FILES));
      }
      await loading?.open();
      const onFatal = (error: Error): void => {
        log.write('warning', error.message);
        onEnd?.(1);
      };
      data = await openData(config, log, onFatal, (read, total) => {
        progress.read = read;
        progress.total = total;
        health.reason = `recovering the data directory: ${progress.text}`;
        onProgress?.(progress);
      });
      const state = new ServerState({
        engine: data.engine,
        config,
        commands: allCommands,
        acl,
        log,
        persistence: data.persistence,
      });
      data.attach(() => state.turns.durable());
      followConfiguration(state);
      const listeners = new Listeners(state, runnersOf(acl.table, allCommands), loading);
      await listeners.open();
      // Clients that are connected already use descriptors that are counted for clients.
      fitMaxClients(config, log, others - (loading?.clients ?? 0));
      state.startMemory = memoryInUse().used;
      const housekeeping = new Housekeeping(state, data.tick);
      const server = new RivuletServer(state, listeners, housekeeping, data, http);
      state.shutdown = ({ checkpoint }) => {
        server.stop(checkpoint).then(
          () => onEnd?.(0),
          (error: Error) => {
            log.write('warning', `shutdown failed: ${error.message}`);
            onEnd?.(1, error instanceof StuckDisk);
          },
        );
      };
      health.reason = null;
      http?.serve(state);
      if (loading !== null) {
        state.continueIds(loading.lastId);
        loading.onLate = (socket) => listeners.adopt(socket, null);
      }
      for (const { socket, greeting } of loading?.takeClients() ?? []) {
        listeners.adopt(socket, greeting);
      }
      loading?.close();
      return server;
    } catch (error) {
      loading?.close();
      await http?.close();
      await data?.close();
      throw error;
    }
  }

  /** Sends the last replies, writes a checkpoint, closes. Further calls return the same promise. */
  stop(checkpoint = true): Promise<void> {
    this.#stopping ??= this.#stop(checkpoint);
    return this.#stopping;
  }

  async #stop(checkpoint: boolean): Promise<void> {
    const { state } = this;
    this.http?.drain();
    this.#listeners.close();
    for (const connection of [...state.connections.values()]) {
      if (connection.blocked) connection.destroy();
      else connection.closeAfterReply();
    }
    state.persistence.flush();
    const timeout = state.config.number('shutdown-timeout') * 1000;
    const until = state.monotonic() + timeout;
    // Without a checkpoint there is nothing that a disk which does not answer is waited for.
    const isStuck = (): boolean =>
      state.persistence.status.stalledSince !== 0 && (!checkpoint || state.monotonic() >= until);
    await clientsClosed(state, until, isStuck);
    const closed = this.#closeData(checkpoint).finally(() => this.#housekeeping.stop());
    await Promise.race([closed, this.#stuckDisk(isStuck, closed)]);
    state.close();
    await this.http?.close();
  }

  async #closeData(checkpoint: boolean): Promise<void> {
    try {
      if (checkpoint) await this.state.persistence.checkpoint();
    } finally {
      await this.#data.close();
    }
  }

  /** Rejects when the disk does not answer and is not to be waited for any longer. */
  async #stuckDisk(isStuck: () => boolean, closed: Promise<void>): Promise<void> {
    let isClosed = false;
    const note = (): void => {
      isClosed = true;
    };
    closed.then(note, note);
    while (!isClosed) {
      if (isStuck()) throw new StuckDisk(this.state.persistence.status.stalledSince);
      await new Promise((resolve) => setTimeout(resolve, STUCK_CHECK_MS));
    }
    await closed;
  }
}

/** The server cannot end in order: what was not acknowledged may be lost, nothing else. */
export class StuckDisk extends Error {
  constructor(since: number) {
    super(
      `the disk has not answered since ${new Date(since).toISOString()}: ending without it. ` +
        'Nothing that was not acknowledged yet will be; the next start recovers the rest',
    );
  }
}

/** Resolves when no client is left. At `until` the remaining clients are closed. */
async function clientsClosed(
  state: ServerState,
  until: number,
  isStuck: () => boolean,
): Promise<void> {
  while (state.connections.size > 0 && state.monotonic() < until && !isStuck()) {
    state.persistence.flush();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  for (const connection of [...state.connections.values()]) connection.destroy();
}

/** Reads the users of configuration and aclfile, before data is loaded: a mistake is reported at once. */
function readUsers(config: Config): Acl {
  const acl = new Acl(new CommandTable(allCommands, config.renamedCommands));
  acl.allChannelsByDefault = config.get('acl-pubsub-default') === 'allchannels';
  const file = config.get('aclfile');
  if (file !== '' && config.users.length > 0) {
    throw new Error("the configuration file has 'user' lines and aclfile is set: keep one of them");
  }
  try {
    for (const [name, ...rules] of config.users) acl.setUser(name!, rules);
    if (file !== '') acl.load(config.path('aclfile'));
  } catch (error) {
    throw new Error(`can't load users: ${shown((error as Error).message)}`);
  }
  // An empty requirepass does not override the default user of an aclfile.
  const password = config.get('requirepass');
  if (password !== '') acl.setRequirePass(password);
  return acl;
}

function followConfiguration({ config, acl }: ServerState): void {
  let started = false;
  config.watch('dir', () => {
    if (started) throw new Error('the data directory of a running server cannot change');
  });
  config.watch('requirepass', (password) => {
    if (started) acl.setRequirePass(password);
  });
  started = true;
}

// ---- The data directory

async function openData(
  config: Config,
  log: Logger,
  onFatal: (error: Error) => void,
  onProgress: (read: number, total: number) => void,
): Promise<OpenData> {
  if (config.yes('appendonly')) {
    const { openDirectory } = await import('./data-directory.ts');
    return openDirectory(config, log, onFatal, onProgress);
  }
  const engine = new Engine({
    clock: systemClock,
    random: new Random(randomInt(2 ** 32)),
    journal: new NullJournal(),
    databases: config.number('databases'),
  });
  return {
    engine,
    persistence: new NoPersistence(systemClock.now()),
    tick() {},
    attach() {},
    async close() {},
  };
}

// ---- HTTP

async function openHttp(config: Config, health: Health, log: Logger): Promise<HttpListener | null> {
  const port = config.number('http-port');
  if (port === 0) return null;
  const { HttpListener } = await import('./observability/http.ts');
  const host = config.get('http-bind') || config.get('bind').split(/\s+/)[0]!.replace(/^-/, '');
  return HttpListener.open(host === '*' ? '0.0.0.0' : host, port, health, log);
}
