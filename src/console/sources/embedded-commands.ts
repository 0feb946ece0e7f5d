/**
 * Commands on the engine of an embedded broker (`memory:`, `file:`), in this process.
 *
 * Holds: a session without a connection; a command runs within one turn of the broker's engine.
 * Invariants: a reply is given only once everything it could have observed is as durable as the broker
 * makes it; commands of a transaction run in one turn, so nothing comes between them. Commands that are
 * about connections, or that wait, are not there.
 */

import type { EngineHost } from '../../broker/embedded/engine-host.ts';
import type { CommandArgument } from '../../client/command-encoder.ts';
import { type Reply, ReplyError } from '../../client/reply.ts';
import { ReplyParser } from '../../client/reply-parser.ts';
import type { Engine } from '../../engine/engine.ts';
import { runnersOf } from '../../server/command/command.ts';
import { CommandTable } from '../../server/command/command-table.ts';
import { allCommands } from '../../server/commands/index.ts';
import type { ClientSession } from '../../server/connection/client-session.ts';
import { BufferPool } from '../../server/output/buffer-pool.ts';
import { ReplyWriter } from '../../server/output/reply-writer.ts';
import { Arguments } from '../../util/arguments.ts';
import type { Commands } from './commands.ts';

/** What the console asks for; nothing of it needs a connection. */
const ALLOWED = new Set([
  ...['xadd', 'xlen', 'xrange', 'xrevrange', 'xdel', 'xinfo', 'xpending', 'xgroup', 'xack'],
  ...['xnack', 'xclaim', 'xcfgget', 'xcfgset', 'xschedule', 'del', 'exists', 'type'],
]);
const LARGEST_BUFFER = 16 * 1024;

export class EmbeddedCommands implements Commands {
  readonly #host: EngineHost;
  readonly #table = new CommandTable(allCommands);
  readonly #runners = runnersOf<ClientSession>(this.#table, allCommands);
  readonly #writer = new ReplyWriter(new BufferPool(LARGEST_BUFFER, 4));

  constructor(host: EngineHost) {
    this.#host = host;
    this.#writer.protocol = 3;
  }

  async call(...args: CommandArgument[]): Promise<Reply> {
    const [reply] = await this.#runAll([args]);
    if (reply instanceof ReplyError) throw reply;
    return reply!;
  }

  transaction(commands: readonly (readonly CommandArgument[])[]): Promise<Reply[]> {
    return this.#runAll(commands);
  }

  async #runAll(commands: readonly (readonly CommandArgument[])[]): Promise<Reply[]> {
    const parsed: Reply[] = [];
    const parser = new ReplyParser({ reply: (reply) => parsed.push(reply), push: () => {} });
    const bytes = this.#host.run((engine) => {
      for (const args of commands) this.#run(engine, args);
      return Buffer.from(this.#writer.take());
    });
    parser.feed(bytes);
    await this.#host.durable();
    return parsed;
  }

  #run(engine: Engine, given: readonly CommandArgument[]): void {
    const parts = given.map((part) =>
      part instanceof Uint8Array ? Buffer.from(part) : Buffer.from(String(part)),
    );
    const args = Arguments.of(...parts);
    const writer = this.#writer;
    const top = this.#table.find(args);
    if (top === null || !ALLOWED.has(top.name)) {
      writer.error(`ERR ${String(given[0])} is not there inside this process`);
      return;
    }
    const command = top.subcommands === null ? top : top.subcommands.find(args, 1);
    const { refusal } = this.#host;
    if (command?.has('write') && refusal !== null) {
      writer.error(`MISCONF ${refusal.message}`);
      return;
    }
    const fits =
      command !== null &&
      (command.arity < 0 ? args.count >= -command.arity : args.count === command.arity);
    if (!fits) writer.error(`ERR wrong form of '${top.name}'`);
    else this.#runners[command.index]!(sessionOf(engine, args, writer));
  }
}

function sessionOf(engine: Engine, args: Arguments, reply: ReplyWriter): ClientSession {
  return {
    id: 0,
    engine,
    database: engine.databases[0]!,
    args,
    reply,
    pushes: reply,
    // As within EXEC: nothing waits here.
    denyBlocking: true,
    transaction: null,
    subscriptions: null,
    exchange: null,
    hasRoom: true,
    block() {},
    readFirst: () => false,
    execute() {},
    written() {},
    unhurried() {},
  } as unknown as ClientSession;
}
