/**
 * Several clients of a whole server (parser, dispatch, output that waits for the log) over the simulated
 * disk: what they were shown survives what the disk does next, and each of them is answered.
 *
 * Only the sockets are not real. The oracle knows nothing of barriers: it notes where the log stood when
 * a key was last changed, and so what a reply to a read of that key has shown; and each value that is
 * written is another one, so that a reply says itself which writes it has shown, also one that came
 * later than its command.
 */
import assert from 'node:assert/strict';
import { runnersOf } from '../../src/server/command/command.ts';
import { allCommands } from '../../src/server/commands/index.ts';
import { Config } from '../../src/server/config/config.ts';
import { Listeners } from '../../src/server/connection/listener.ts';
import { silentLogger } from '../../src/server/observability/logger.ts';
import { NoPersistence, type Persistence } from '../../src/server/persistence.ts';
import { ServerState } from '../../src/server/server-state.ts';
import { aCommand, aRead, KEYS, keysOf, kindsOf, mayBlock } from './client-commands.ts';
import { type Sent, SimulatedClient } from './simulated-client.ts';
import { type Life, World } from './world.ts';

export interface ClientEvents {
  commands: number;
  replies: number;
  /** Replies that came while the disk completed nothing. */
  repliesInStalls: number;
  refusals: number;
  /** Blocked commands that were given entries. */
  served: number;
  /** Blocked commands whose time was up. */
  timedOut: number;
  /** Transactions that ran, and that did not because a watched key had changed. */
  transactions: number;
  conflicts: number;
  /** Connections that ended. */
  left: number;
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
    served: 0,
    timedOut: 0,
    transactions: 0,
    conflicts: 0,
    left: 0,
    powerLosses: 0,
    kills: 0,
    diskFailures: 0,
    fullDisks: 0,
  };
}

const CLIENTS = 5;
/** Turns of the loop within which a reply that waits for nothing has to come. */
const SOON = 10;
/** Ids of delivered entries that are remembered. */
const IDS = 20;
const EXPECTED_ERROR =
  /^-(MISCONF|NOGROUP|BUSYGROUP|UNBLOCKED|EXECABORT|ERR no such key|ERR The XGROUP subcommand)/;

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

/** Clients that wait for entries of a stream: one of them is served next. */
interface Awaiting {
  readonly stream: string;
  readonly clients: readonly SimulatedClient[];
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
  /** Where the log stood after the write of a value. */
  readonly #writtenAt = new Map<string, number>();
  /** Of entries that were delivered to groups, the last ones. */
  readonly #ids: string[] = [];
  /** Where the log stood when it was last looked at. */
  #noted: number;
  #value = 0;
  #isStalled = false;

  constructor(world: World, life: Life, events: ClientEvents, recovered: number) {
    this.#world = world;
    this.#life = life;
    this.#events = events;
    this.#shown = this.#allChangedAt = this.#removedAt = this.#noted = recovered;
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
      } else if (random.chance(0.5)) this.#leave();
      else await this.#allAnswered();
      await new Promise(setImmediate);
      this.#read();
    }
    if (!life.hasFailed && random.chance(0.5)) await this.#allAnswered();
    return this.#end();
  }

  /** A client is gone, whatever it waits for, and another one comes. */
  #leave(): void {
    this.#read();
    const i = this.#world.random.below(this.#clients.length);
    this.#clients[i]!.leave();
    this.#clients[i] = new SimulatedClient(this.#server);
    this.#events.left++;
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
    this.#noteOthers();
    const isFree = ({ waiting, unit }: SimulatedClient) => waiting.length === 0 && unit === null;
    const free = this.#clients.filter(isFree);
    const expired = new Set<SimulatedClient>();
    for (const client of free) {
      const key = this.#world.random.pick(KEYS);
      const safeKey = this.#showsOf([key]) <= log.safe && this.#removedAt <= log.safe;
      const args = safeKey ? ['GET', key] : this.#world.random.pick([['PING'], ['INFO', 'server']]);
      const { appended } = log;
      this.#send(client, args);
      // The key had expired: its removal has to be on disk first.
      if (log.appended !== appended) expired.add(client);
    }
    for (let turns = 0; turns < SOON; turns++) await new Promise(setImmediate);
    this.#read();
    const due = free.filter((client) => !expired.has(client));
    const left = due.flatMap(({ waiting }) => waiting.map(({ args }) => args.join(' ')));
    assert.deepEqual(left, [], 'not answered, though it shows nothing that the disk has not taken');
    this.#isStalled = false;
  }

  #send(client = this.#world.random.pick(this.#clients), args = this.#next(client)): void {
    const { log } = this.#life;
    this.#noteOthers();
    const before = log.appended;
    const { unit } = client;
    const name = args[0] as string;
    const isQueued = unit !== null && name !== 'EXEC' && name !== 'DISCARD';
    const blocks = !isQueued && mayBlock(args);
    const kinds = isQueued ? '+' : kindsOf(name);
    // The reply may be written within the call.
    const readers = name === 'XADD' && !isQueued ? this.#readersOf(args[1] as string) : [];
    const index = client.waiting.push({ args, shows: 0, kinds, blocks, sentAt: before }) - 1;
    client.send(args);
    let shows = 0;
    if (isQueued) unit.push(args);
    else if (name === 'EXEC') shows = this.#noteUnit(unit ?? [], before, log.appended);
    else shows = this.#note(args, before, log.appended);
    client.waiting[index] = { args, shows, kinds, blocks, sentAt: before };
    if (log.appended > before) this.#mustBeServed(readers);
    if (name === 'MULTI') client.unit = [];
    else if (!isQueued && unit !== null) client.unit = null;
    this.#noted = log.appended;
    this.#events.commands++;
  }

  /** The clients that an entry of this stream wakes: each XREAD, and one of the group's. */
  #readersOf(stream: string): Awaiting[] {
    // One that waits since before the stream went may wait for an id of the stream before.
    const since = this.#removedAt;
    const reads = (client: SimulatedClient) =>
      client.blockedOn(stream) === 'XREAD' && client.blockedSince >= since;
    const readers = this.#clients.filter(reads);
    const members = this.#clients.filter((client) => client.blockedOn(stream) === 'XREADGROUP');
    const each = readers.map((client) => ({ stream, clients: [client] }));
    return members.length === 0 ? each : [...each, { stream, clients: members }];
  }

  #mustBeServed(readers: readonly Awaiting[]): void {
    for (const { stream, clients } of readers) {
      const isServed = clients.some((client) => client.blockedOn(stream) === null);
      // A delivery is a write too: it waits while the log takes none.
      const mayWait = clients[0]!.blockedOn(stream) === 'XREADGROUP' && !this.#life.acceptsWrites;
      assert.ok(isServed || mayWait, `an entry of ${stream} has come, and its readers wait`);
    }
  }

  /** What this client sends next. */
  #next(client: SimulatedClient): string[] {
    const { random } = this.#world;
    if (client.mayBeBlocked) return aRead(random);
    if (client.unit === null) {
      if (random.chance(0.06)) return ['MULTI'];
      if (random.chance(0.04)) return ['WATCH', random.pick(KEYS)];
      if (random.chance(0.03)) return this.#unblock();
    } else if (random.chance(0.3)) {
      return [random.chance(0.8) ? 'EXEC' : 'DISCARD'];
    }
    const value = `v${++this.#value}.${'x'.repeat(random.chance(0.1) ? 3000 : random.below(20))}`;
    return aCommand(random, value, this.#ids);
  }

  #unblock(): string[] {
    const { random } = this.#world;
    const how = random.pick(['ERROR', 'TIMEOUT']);
    return ['CLIENT', 'UNBLOCK', String(random.pick(this.#clients).id), how];
  }

  /** Changes that no command has noted: what was expired, and what blocked commands were given. */
  #noteOthers(): void {
    const { appended } = this.#life.log;
    if (appended === this.#noted) return;
    this.#removedAt = this.#noted = appended;
  }

  /** Notes what a command has changed; returns the position behind what its reply shows. */
  #note(args: readonly string[], before: number, after: number): number {
    const name = args[0] as string;
    const keys = keysOf(args);
    // WATCH may find that its key has expired.
    if (after > before) this.#noteRemoval(name, after);
    if (['PING', 'INFO', 'MULTI', 'DISCARD', 'WATCH', 'CLIENT'].includes(name)) return 0;
    if (name === 'DBSIZE') return before;
    if (after > before) {
      this.#noteValues(args, after);
      if (name === 'SWAPDB' || name === 'FLUSHDB') this.#allChangedAt = after;
      else for (const key of keys) this.#changedAt.set(key, after);
      return after;
    }
    return this.#showsOf(keys);
  }

  #noteRemoval(name: string, after: number): void {
    if (!['SET', 'APPEND', 'XADD'].includes(name)) this.#removedAt = after;
  }

  /** The same for a transaction: of its commands only some are sure to have changed something. */
  #noteUnit(unit: readonly (readonly string[])[], before: number, after: number): number {
    if (after === before)
      return Math.max(0, ...unit.map((args) => this.#note(args, before, after)));
    this.#removedAt = after;
    for (const args of unit) {
      const name = args[0] as string;
      if (name === 'SWAPDB' || name === 'FLUSHDB') this.#allChangedAt = after;
      if (name !== 'SET' && name !== 'APPEND' && name !== 'XADD') continue;
      this.#noteValues(args, after);
      this.#changedAt.set(args[1] as string, after);
    }
    return after;
  }

  #noteValues(args: readonly string[], position: number): void {
    for (const arg of args) for (const value of valuesIn(arg)) this.#writtenAt.set(value, position);
  }

  #showsOf(keys: readonly string[]): number {
    return Math.max(this.#allChangedAt, ...keys.map((key) => this.#changedAt.get(key) ?? 0));
  }

  #read(): void {
    for (const client of this.#clients) {
      for (const { reply, sent } of client.take()) {
        this.#events.replies++;
        if (this.#isStalled) this.#events.repliesInStalls++;
        const isError = reply.startsWith('-');
        const fits = isError ? EXPECTED_ERROR.test(reply) : sent.kinds.includes(reply[0] as string);
        assert.ok(fits, `${sent.args.join(' ').slice(0, 200)} is answered ${reply.slice(0, 200)}`);
        if (reply.startsWith('-MISCONF')) this.#events.refusals++;
        if (isError) continue;
        this.#shown = Math.max(this.#shown, sent.shows);
        // INFO names versions that look like a value of ours.
        for (const value of sent.args[0] === 'INFO' ? [] : valuesIn(reply)) {
          this.#shown = Math.max(this.#shown, this.#writtenAt.get(value) ?? 0);
        }
        this.#count(sent, reply);
      }
    }
  }

  #count({ args, blocks }: Sent, reply: string): void {
    const isNothing = reply === '*-1\r\n';
    if (blocks) this.#events[isNothing ? 'timedOut' : 'served']++;
    if (args[0] === 'EXEC') this.#events[isNothing ? 'conflicts' : 'transactions']++;
    if (args[0] !== 'XREADGROUP') return;
    for (const [id] of reply.matchAll(/\d+-\d+/g)) this.#ids.push(id);
    this.#ids.splice(0, this.#ids.length - IDS);
  }
}

/** The values of ours in a text. */
function* valuesIn(text: string): Generator<string> {
  for (const [value] of text.matchAll(/v\d+\./g)) yield value;
}
