/**
 * A whole server: data directory, engine, listeners; started, and stopped in order.
 *
 *   start:  configuration -> (HTTP) -> ports that answer LOADING -> data directory recovered ->
 *           RESP listeners on the same ports -> ready
 *   stop:   accept nobody -> finish replies -> checkpoint -> close the directory
 */
import { randomInt } from 'node:crypto';
import { Engine } from '../engine/engine.ts';
import { NullJournal } from '../storage/journal.ts';
import { systemClock } from '../util/clock.ts';
import { Random } from '../util/random.ts';
import { Acl } from './acl.ts';
import { CommandTable } from './command-table.ts';
import { allCommands } from './commands/index.ts';
import { type Config, shown } from './config.ts';
import { fitMaxClients, roomForClients } from './file-descriptors.ts';
import { Housekeeping } from './housekeeping.ts';
import type { HttpListener } from './http.ts';
import { type Address, Listeners } from './listener.ts';
import { LoadingPorts, LoadingProgress } from './loading.ts';
import type { Logger } from './logger.ts';
import { memoryInUse } from './memory-use.ts';
import { NoPersistence } from './persistence.ts';
import { ServerState } from './server-state.ts';

/** Descriptors that are opened while data is loaded: log, checkpoint, lock, listening sockets. */
const LOADING_FILES = 32;

export interface StartOptions {
  readonly config: Config;
  readonly log: Logger;
  /** The server wants to end the process: SHUTDOWN, or a disk that has failed. */
  readonly onEnd?: (code: number) => void;
  /** Data is being loaded; called after each part of the log. */
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
      data.attach(state);
      followConfiguration(state);
      const listeners = new Listeners(state, loading);
      await listeners.open();
      // Clients that wait already take descriptors of those that are for clients.
      fitMaxClients(config, log, others - (loading?.clients ?? 0));
      state.startMemory = memoryInUse().used;
      const housekeeping = new Housekeeping(state, data.tick);
      const server = new RivuletServer(state, listeners, housekeeping, data, http);
      state.shutdown = ({ checkpoint }) => {
        server.stop(checkpoint).then(
          () => onEnd?.(0),
          (error: Error) => {
            log.write('warning', `shutdown failed: ${error.message}`);
            onEnd?.(1);
          },
        );
      };
      health.reason = null;
      http?.serve(state);
      if (loading !== null) state.continueIds(loading.lastId);
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

  /** Finishes replies, checkpoints, closes. The same promise however often it is called. */
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
    await everybodyGone(state, state.config.number('shutdown-timeout') * 1000);
    this.#housekeeping.stop();
    state.close();
    try {
      if (checkpoint) await state.persistence.checkpoint();
    } finally {
      await this.#data.close();
      await this.http?.close();
    }
  }
}

/** Resolves when no client is left, or after `timeoutMs` when some had to be cut off. */
async function everybodyGone(state: ServerState, timeoutMs: number): Promise<void> {
  const until = state.monotonic() + timeoutMs;
  while (state.connections.size > 0 && state.monotonic() < until) {
    state.persistence.flush();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  for (const connection of [...state.connections.values()]) connection.destroy();
}

/** The users of configuration and aclfile: an error in them is found before anything is loaded. */
function readUsers(config: Config): Acl {
  const acl = new Acl(new CommandTable(allCommands, config.renamedCommands));
  acl.allChannelsByDefault = config.get('acl-pubsub-default') === 'allchannels';
  const file = config.get('aclfile');
  if (file !== '' && config.users.length > 0) {
    throw new Error('users stand in the configuration file and aclfile is set: choose one of them');
  }
  try {
    for (const [name, ...rules] of config.users) acl.setUser(name!, rules);
    if (file !== '') acl.load(config.path('aclfile'));
  } catch (error) {
    throw new Error(`can't load users: ${shown((error as Error).message)}`);
  }
  // An aclfile's default user is not overruled by an empty requirepass.
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

/** Engine and journal, and how they end. */
export interface OpenData {
  readonly engine: Engine;
  readonly persistence: ServerState['persistence'];
  readonly tick: () => void;
  attach(state: ServerState): void;
  close(): Promise<void>;
}

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

/** Why the server is not ready; null = it is. */
export interface Health {
  reason: string | null;
}

async function openHttp(config: Config, health: Health, log: Logger): Promise<HttpListener | null> {
  const port = config.number('http-port');
  if (port === 0) return null;
  const { HttpListener } = await import('./http.ts');
  const host = config.get('http-bind') || config.get('bind').split(/\s+/)[0]!.replace(/^-/, '');
  return HttpListener.open(host === '*' ? '0.0.0.0' : host, port, health, log);
}
