/**
 * One sequence of commands, sent to both servers step by step, from empty databases on fresh
 * connections; ends at the first difference.
 *
 * Blocking is made deterministic by asking: after a command that may block, each server is asked
 * (CLIENT LIST, on a connection apart) whether the client is blocked; and while a client is blocked,
 * after each further command, whether it still is. One that is not has its reply on the way. A command
 * for a connection that is blocked is skipped, so that any part of a sequence is a sequence too.
 */
import { RespSession } from '../helpers/resp-session.ts';
import { Comparer } from './compare.ts';
import { compareExchanged } from './exchange.ts';
import { mayBlock, type Step } from './generator.ts';

export interface Target {
  readonly name: 'redis' | 'rivulet';
  readonly port: number;
  /** For tests of this test: changes a reply. */
  readonly alter?: (args: readonly string[], reply: Buffer) => Buffer;
}

export interface Setting {
  readonly nodeMaxEntries: number;
  readonly nodeMaxBytes: number;
  /** Of the server beside Rivulet (reference.ts). @default 7.0 */
  readonly version?: number;
  /** RESP version of each connection. */
  readonly protocols: readonly (2 | 3)[];
}

export interface Difference {
  /** Index of the step whose reply differs. */
  readonly at: number;
  /** Index of the last step that was sent: the reply of a blocked command comes after later ones. */
  readonly after: number;
  readonly redis: string;
  readonly rivulet: string;
}

export interface EpisodeResult {
  readonly commands: number;
  readonly difference: Difference | undefined;
  readonly known: ReadonlyMap<string, number>;
}

/** A reply that may still be on its way. */
interface Awaited {
  readonly at: number;
  readonly args: readonly string[];
  readonly replies: readonly [Promise<Buffer>, Promise<Buffer>];
  readonly arrived: [boolean, boolean];
}

const PIPELINE = 16;

class Side {
  readonly target: Target;
  readonly #sessions: RespSession[] = [];
  readonly clientIds: string[] = [];
  #control: RespSession | undefined;
  readonly #timeoutMs: number;

  constructor(target: Target, timeoutMs: number) {
    this.target = target;
    this.#timeoutMs = timeoutMs;
  }

  async open(setting: Setting): Promise<void> {
    const { port } = this.target;
    const timeoutMs = this.#timeoutMs;
    this.#control = await RespSession.open(port, { timeoutMs });
    await this.#control.pipeline([
      ['FLUSHALL'],
      ['CONFIG', 'SET', 'stream-node-max-entries', setting.nodeMaxEntries],
      ['CONFIG', 'SET', 'stream-node-max-bytes', setting.nodeMaxBytes],
    ]);
    for (const protocol of setting.protocols) {
      const session = await RespSession.open(port, { protocol, timeoutMs });
      this.#sessions.push(session);
      this.clientIds.push((await session.text('CLIENT', 'ID')).slice(1, -2));
    }
  }

  /** Sends the steps in one write; their replies. */
  send(steps: readonly Step[]): Promise<Buffer>[] {
    const session = this.#sessions[steps[0].connection];
    const commands = steps.map(({ args }) =>
      args.map((arg) =>
        typeof arg === 'string'
          ? Buffer.from(arg, 'latin1')
          : Buffer.isBuffer(arg)
            ? arg
            : this.clientIds[arg.clientOf],
      ),
    );
    const all = session.pipeline(commands);
    return steps.map((step, i) => all.then((replies) => this.#altered(step, replies[i])));
  }

  /** Which of the connections are blocked now, by the server's own account. */
  async blocked(connections: readonly number[]): Promise<Set<number>> {
    const ids = connections.map((connection) => this.clientIds[connection]);
    const list = await this.#control?.text('CLIENT', 'LIST', 'ID', ...ids);
    const found = new Set<number>();
    for (const [, id, flags] of (list ?? '').matchAll(/\bid=(\d+) .*? flags=(\w+)/g)) {
      if (flags.includes('b')) found.add(this.clientIds.indexOf(id));
    }
    return found;
  }

  async close(): Promise<void> {
    await Promise.all([this.#control, ...this.#sessions].map((session) => session?.close()));
  }

  #altered(step: Step, reply: Buffer): Buffer {
    return this.target.alter?.(textOf(step), reply) ?? reply;
  }
}

export async function runEpisode(
  targets: readonly [redis: Target, rivulet: Target],
  setting: Setting,
  steps: readonly Step[],
  timeoutMs = 20_000,
): Promise<EpisodeResult> {
  const sides = [new Side(targets[0], timeoutMs), new Side(targets[1], timeoutMs)] as const;
  const episode = new Episode(sides, steps, setting.version);
  try {
    await Promise.all(sides.map((side) => side.open(setting)));
    let difference = await episode.run();
    if (difference === undefined && !episode.comparer.partedWays) {
      const found = await compareExchanged(targets[0].port, targets[1].port, episode.comparer);
      if (found !== undefined)
        difference = { ...found, at: steps.length - 1, after: steps.length - 1 };
    }
    return { commands: episode.commands, difference, known: episode.comparer.known };
  } finally {
    await Promise.all(sides.map((side) => side.close()));
  }
}

class Episode {
  readonly comparer: Comparer;
  commands = 0;
  /** How many steps have been sent or skipped. */
  #sent = 0;
  readonly #sides: readonly [Side, Side];
  readonly #steps: readonly Step[];
  readonly #blocked = new Map<number, Awaited>();
  /** Commands queued between MULTI and EXEC, by connection. */
  readonly #queued = new Map<number, (readonly string[])[]>();

  constructor(sides: readonly [Side, Side], steps: readonly Step[], version?: number) {
    this.comparer = new Comparer(version);
    this.#sides = sides;
    this.#steps = steps;
  }

  async run(): Promise<Difference | undefined> {
    for (let at = 0; at < this.#steps.length && !this.comparer.partedWays; ) {
      const size = this.#sizeOfPipeline(at);
      const difference = size === 0 ? undefined : await this.#runSteps(at, size);
      if (difference !== undefined) return difference;
      at += Math.max(1, size);
    }
    return undefined;
  }

  /** How many steps from here may leave in one write: those of one connection, while no client is blocked. */
  #sizeOfPipeline(at: number): number {
    const first = this.#steps[at];
    if (this.#blocked.has(first.connection)) return 0;
    if (this.#blocked.size > 0 || mayBlock(first)) return 1;
    let size = 1;
    for (; size < PIPELINE && at + size < this.#steps.length; size++) {
      const next = this.#steps[at + size];
      if (next.connection !== first.connection || mayBlock(next)) break;
    }
    return size;
  }

  async #runSteps(at: number, size: number): Promise<Difference | undefined> {
    const steps = this.#steps.slice(at, at + size);
    this.commands += size;
    this.#sent = at + size;
    const [redis, rivulet] = this.#sides.map((side) => side.send(steps));
    for (let i = 0; i < size; i++) {
      const awaited = waitFor(at + i, textOf(steps[i]), redis[i], rivulet[i]);
      const { connection } = steps[i];
      if (mayBlock(steps[i]) && !this.#queued.has(connection))
        this.#blocked.set(connection, awaited);
      else {
        const difference = await this.#compare(awaited, connection);
        if (difference !== undefined || this.comparer.partedWays) return difference;
      }
    }
    return this.#blocked.size > 0 ? this.#settleBlocked() : undefined;
  }

  /** Finds out who is still blocked, and takes the replies of those who are not. */
  async #settleBlocked(): Promise<Difference | undefined> {
    const waiting = [...this.#blocked.keys()];
    const states = await Promise.all(
      this.#sides.map((side, i) => this.#settledState(side, i, waiting)),
    );
    for (const [connection, awaited] of [...this.#blocked]) {
      const [redis, rivulet] = states.map((blocked) => blocked.has(connection));
      if (redis && rivulet) continue;
      if (redis !== rivulet) {
        if (rivulet && this.comparer.explainsServing(await awaited.replies[0], awaited.args))
          return;
        const say = (isBlocked: boolean) => (isBlocked ? '(still blocked)' : '(not blocked)');
        return this.#difference(awaited, say(redis), say(rivulet));
      }
      this.#blocked.delete(connection);
      const difference = await this.#compare(awaited, connection);
      if (difference !== undefined) return difference;
    }
    return undefined;
  }

  /** Asks until every waiting connection is either blocked or has its reply. */
  async #settledState(side: Side, index: number, waiting: readonly number[]): Promise<Set<number>> {
    for (;;) {
      const blocked = await side.blocked(waiting);
      // Not blocked: its command has not been read yet, or its reply is on the way. Wait for either.
      const isSettled = waiting.every(
        (connection) => blocked.has(connection) || this.#blocked.get(connection)?.arrived[index],
      );
      if (isSettled) return blocked;
      await new Promise(setImmediate);
    }
  }

  async #compare(awaited: Awaited, connection: number): Promise<Difference | undefined> {
    const [redis, rivulet] = await Promise.allSettled(awaited.replies);
    if (redis.status === 'rejected' || rivulet.status === 'rejected') {
      const say = (result: PromiseSettledResult<Buffer>) =>
        result.status === 'rejected' ? `(${result.reason.message})` : show(result.value);
      return this.#difference(awaited, say(redis), say(rivulet));
    }
    const queued = this.#followTransaction(connection, awaited.args, redis.value);
    if (this.comparer.areEqual(redis.value, rivulet.value, awaited.args, queued)) return undefined;
    return this.#difference(awaited, show(redis.value), show(rivulet.value));
  }

  #difference(awaited: Awaited, redis: string, rivulet: string): Difference {
    return { at: awaited.at, after: this.#sent - 1, redis, rivulet };
  }

  /** Keeps account of MULTI; for an EXEC returns the commands that were queued. */
  #followTransaction(
    connection: number,
    args: readonly string[],
    reply: Buffer,
  ): readonly (readonly string[])[] {
    const name = args[0].toUpperCase();
    const queue = this.#queued.get(connection) ?? [];
    if (name === 'MULTI' && reply[0] === 43) this.#queued.set(connection, []);
    else if (name === 'EXEC' || name === 'DISCARD') this.#queued.delete(connection);
    else if (reply.equals(QUEUED)) queue.push(args);
    return queue;
  }
}

const QUEUED = Buffer.from('+QUEUED\r\n');

function waitFor(
  at: number,
  args: readonly string[],
  redis: Promise<Buffer>,
  rivulet: Promise<Buffer>,
): Awaited {
  const arrived: [boolean, boolean] = [false, false];
  for (const [i, reply] of [redis, rivulet].entries()) {
    const mark = () => {
      arrived[i] = true;
    };
    reply.then(mark, mark);
  }
  return { at, args, replies: [redis, rivulet], arrived };
}

/** Latin1: one character a byte. */
function textOf(step: Step): string[] {
  return step.args.map((arg) =>
    Buffer.isBuffer(arg) ? arg.toString('latin1') : typeof arg === 'string' ? arg : '<id>',
  );
}

function show(reply: Buffer): string {
  return JSON.stringify(reply.toString('latin1').slice(0, 4_000));
}
