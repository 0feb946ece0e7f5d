/**
 * Several clients of a whole server (parser, dispatch, output that waits for the log) over the simulated
 * disk: what they were shown survives what the disk does next, and each of them is answered.
 *
 * Only the sockets are not real. The oracle knows nothing of barriers: it notes where the log stood when
 * a key was last changed, and so what a reply to a read of that key has shown.
 */
import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { runnersOf } from '../../src/server/command/command.ts';
import { allCommands } from '../../src/server/commands/index.ts';
import { Config } from '../../src/server/config/config.ts';
import { Listeners } from '../../src/server/connection/listener.ts';
import { silentLogger } from '../../src/server/observability/logger.ts';
import { NoPersistence, type Persistence } from '../../src/server/persistence.ts';
import { type ConnectedClient, ServerState } from '../../src/server/server-state.ts';
import { type Life, World } from './world.ts';

export interface ClientEvents {
  commands: number;
  replies: number;
  /** Replies that came while the disk completed nothing. */
  repliesInStalls: number;
  refusals: number;
  powerLosses: number;
  kills: number;
  diskFailures: number;
  fullDisks: number;
}

export function noClientEvents(): ClientEvents {
  return {
    commands: 0,
    replies: 0,
    repliesInStalls: 0,
    refusals: 0,
    powerLosses: 0,
    kills: 0,
    diskFailures: 0,
    fullDisks: 0,
  };
}

const CLIENTS = 5;
const KEYS = ['a', 'b', 'c', 'd'] as const;
/** Turns of the loop within which a reply that waits for nothing has to come. */
const SOON = 10;

/** A command on its way. */
interface Sent {
  readonly args: readonly string[];
  /** The position behind everything that its reply may show. */
  readonly shows: number;
}

class SimulatedSocket extends EventEmitter {
  readonly remoteAddress = '10.0.0.1';
  readonly remotePort = 1000;
  readonly writableLength = 0;
  destroyed = false;
  received = '';

  write(bytes: Buffer, done?: () => void): boolean {
    this.received += bytes.toString('latin1');
    if (done !== undefined) setImmediate(done);
    return true;
  }

  destroy(): void {
    this.destroyed = true;
  }

  destroySoon(): void {
    this.destroyed = true;
  }

  cork(): void {}
  uncork(): void {}
  pause(): void {}
  resume(): void {}
}

class SimulatedClient {
  readonly socket = new SimulatedSocket();
  readonly waiting: Sent[] = [];
  readonly #connection: ConnectedClient;

  constructor(server: ServerState) {
    this.#connection = server.connect(this.socket as unknown as Socket, null);
    server.connections.set(this.#connection.id, this.#connection);
  }

  send(args: readonly string[]): void {
    const parts = args.map((arg) => `$${arg.length}\r\n${arg}\r\n`).join('');
    const bytes = Buffer.from(`*${args.length}\r\n${parts}`, 'latin1');
    this.#connection.receive(bytes, bytes.length);
  }

  /** The replies that have come since the last call, each with its command. */
  *take(): Generator<{ reply: string; sent: Sent }> {
    for (;;) {
      const { received } = this.socket;
      const end = endOfReply(received, 0);
      if (end === -1) return;
      const sent = this.waiting.shift();
      assert.ok(sent !== undefined, `a reply to nothing: ${JSON.stringify(received)}`);
      this.socket.received = received.slice(end);
      yield { reply: received.slice(0, end), sent };
    }
  }
}

/** Where the reply ends that begins at `at`; -1 = it is not there whole. */
function endOfReply(text: string, at: number): number {
  const line = text.indexOf('\r\n', at);
  if (line === -1) return -1;
  const count = Number(text.slice(at + 1, line));
  if (text[at] === '$') {
    const end = count < 0 ? line + 2 : line + 2 + count + 2;
    return end <= text.length ? end : -1;
  }
  if (text[at] !== '*') return line + 2;
  let end = line + 2;
  for (let i = 0; i < count && end !== -1; i++) end = endOfReply(text, end);
  return end;
}

/** Runs one seed; rejects with what went wrong. */
export async function simulateClients(seed: number, events: ClientEvents): Promise<void> {
  const world = new World(seed);
  try {
    let shown = 0;
    for (let lives = 3; lives > 0; lives--) {
      await world.squeeze(undefined);
      const life = await world.start();
      const recovered = life.report.position;
      assert.ok(recovered >= shown, `shown up to ${shown}, recovered to ${recovered}`);
      shown = await new ServedLife(world, life, events, recovered).live();
    }
    const { report } = await world.start();
    assert.ok(report.position >= shown, `shown up to ${shown}, recovered to ${report.position}`);
  } catch (error) {
    throw new Error(`seed ${seed}: ${(error as Error).stack}`, { cause: error });
  }
}

class ServedLife {
  readonly #world: World;
  readonly #life: Life;
  readonly #events: ClientEvents;
  readonly #server: ServerState;
  readonly #clients: SimulatedClient[] = [];
  /** Where the log stood after the last change of a key, and after one that shows in every key. */
  readonly #changedAt = new Map<string, number>();
  #allChangedAt: number;
  #removedAt: number;
  /** Up to where clients have been shown the log. */
  #shown: number;
  #value = 0;
  #isStalled = false;

  constructor(world: World, life: Life, events: ClientEvents, recovered: number) {
    this.#world = world;
    this.#life = life;
    this.#events = events;
    this.#shown = this.#allChangedAt = this.#removedAt = recovered;
    const { log, engine } = life;
    const none = new NoPersistence(0);
    const persistence: Persistence = {
      enabled: true,
      get backlog() {
        return log.backlog;
      },
      flush: () => log.flush(),
      sync: () => log.drain(),
      checkpoint: () => none.checkpoint(),
      status: none.status,
    };
    const config = new Config();
    this.#server = new ServerState({
      engine,
      config,
      commands: allCommands,
      log: silentLogger,
      persistence,
    });
    new Listeners(this.#server, runnersOf(this.#server.table, allCommands));
    log.onDurable = log.onWritten = () => this.#server.turns.durable();
    for (let i = 0; i < CLIENTS; i++) this.#clients.push(new SimulatedClient(this.#server));
  }

  /** Until the process ends in some way; returns up to where what clients were shown has to survive. */
  async live(): Promise<number> {
    const { random, disk, clock } = this.#world;
    const life = this.#life;
    for (let steps = 30 + random.below(150); steps > 0 && !life.hasFailed; steps--) {
      const choice = random.below(100);
      if (choice < 50) this.#send();
      else if (choice < 82) await life.stepDisk();
      else if (choice < 92) {
        clock.advance(random.below(400));
        life.log.tick();
        this.#server.turns.tick();
      } else if (choice < 95) await this.#stall();
      else if (choice < 96) {
        disk.failNext(random.pick(['write', 'sync']), random.pick(['EIO', 'ENOSPC']));
      } else if (choice < 98) {
        await this.#world.squeeze(random.chance(0.6) ? random.below(30_000) : undefined);
        this.#events.fullDisks++;
      } else await this.#allAnswered();
      await new Promise(setImmediate);
      this.#read();
    }
    if (!life.hasFailed && random.chance(0.5)) await this.#allAnswered();
    return this.#end();
  }

  async #end(): Promise<number> {
    const { random, disk, policy } = this.#world;
    const { log, hasFailed } = this.#life;
    if (hasFailed) this.#events.diskFailures++;
    this.#read();
    const shown = this.#shown;
    const { durable } = log;
    this.#server.close();
    if (!hasFailed && random.chance(0.5)) {
      this.#events.kills++;
      await disk.kill();
      return shown;
    }
    this.#events.powerLosses++;
    await disk.crash();
    return policy === 'always' ? shown : Math.min(shown, durable);
  }

  /** Whether every client is answered once the disk completes what it was given. */
  async #allAnswered(): Promise<void> {
    const { disk, clock } = this.#world;
    const life = this.#life;
    await this.#world.squeeze(undefined);
    for (let rounds = 0; rounds < 40 && !life.hasFailed; rounds++) {
      await disk.settle();
      clock.advance(300);
      life.log.tick();
      this.#server.turns.tick();
      await new Promise(setImmediate);
      this.#read();
      if (this.#clients.every(({ waiting }) => waiting.length === 0)) return;
    }
    if (life.hasFailed) return;
    const left = this.#clients.flatMap(({ waiting }) => waiting.map(({ args }) => args.join(' ')));
    assert.deepEqual(left, [], 'never answered, though the disk has done everything');
  }

  /** The disk completes nothing for a while: who waits for nothing is answered all the same. */
  async #stall(): Promise<void> {
    const { log } = this.#life;
    this.#isStalled = true;
    const free = this.#clients.filter(({ waiting }) => waiting.length === 0);
    for (const client of free) {
      const key = this.#world.random.pick(KEYS);
      const safeKey = this.#showsOf([key]) <= log.safe && this.#removedAt <= log.safe;
      const args = safeKey ? ['GET', key] : this.#world.random.pick([['PING'], ['INFO', 'server']]);
      this.#send(client, args);
    }
    for (let turns = 0; turns < SOON; turns++) await new Promise(setImmediate);
    this.#read();
    const left = free.flatMap(({ waiting }) => waiting.map(({ args }) => args.join(' ')));
    assert.deepEqual(left, [], 'not answered, though it shows nothing that the disk has not taken');
    this.#isStalled = false;
  }

  #send(client = this.#world.random.pick(this.#clients), args = this.#command()): void {
    const { log } = this.#life;
    const before = log.appended;
    // The reply may be written within the call.
    const index = client.waiting.push({ args, shows: 0 }) - 1;
    client.send(args);
    client.waiting[index] = { args, shows: this.#note(args, before, log.appended) };
    this.#events.commands++;
  }

  #command(): string[] {
    const { random } = this.#world;
    const key = random.pick(KEYS);
    const value = `v${++this.#value}${'x'.repeat(random.chance(0.1) ? 3000 : random.below(20))}`;
    return random.pick([
      ['SET', key, value],
      ['SET', key, value],
      ['APPEND', key, value],
      ['GET', key],
      ['GET', key],
      ['EXISTS', key],
      ['MGET', key, random.pick(KEYS)],
      ['STRLEN', key],
      ['DEL', key],
      ['RENAME', key, random.pick(KEYS)],
      ['XADD', `s${key}`, '*', 'f', value],
      ['XLEN', `s${key}`],
      ['XREVRANGE', `s${key}`, '+', '-', 'COUNT', '2'],
      ['XTRIM', `s${key}`, 'MAXLEN', '3'],
      ['SWAPDB', '0', '1'],
      ['FLUSHDB'],
      ['DBSIZE'],
      ['PING'],
    ]);
  }

  /** Notes what a command has changed; returns the position behind what its reply shows. */
  #note(args: readonly string[], before: number, after: number): number {
    const [name, ...rest] = args;
    const keys = name === 'MGET' || name === 'RENAME' ? rest : rest.slice(0, 1);
    if (name === 'PING' || name === 'INFO') return 0;
    if (name === 'DBSIZE') return before;
    if (after > before) {
      if (name === 'SWAPDB' || name === 'FLUSHDB') this.#allChangedAt = after;
      else for (const key of keys) this.#changedAt.set(key as string, after);
      if (name !== 'SET' && name !== 'APPEND' && name !== 'XADD') this.#removedAt = after;
      return after;
    }
    return this.#showsOf(keys as string[]);
  }

  #showsOf(keys: readonly string[]): number {
    return Math.max(this.#allChangedAt, ...keys.map((key) => this.#changedAt.get(key) ?? 0));
  }

  #read(): void {
    for (const client of this.#clients) {
      for (const { reply, sent } of client.take()) {
        this.#events.replies++;
        if (this.#isStalled) this.#events.repliesInStalls++;
        if (reply.startsWith('-MISCONF')) this.#events.refusals++;
        else if (!reply.startsWith('-')) this.#shown = Math.max(this.#shown, sent.shows);
      }
    }
  }
}
