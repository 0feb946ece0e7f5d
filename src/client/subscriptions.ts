/**
 * The channels and patterns that a client listens to, so that a new connection listens to them too.
 */
import type { CommandArgument } from './command-encoder.ts';

export class Subscriptions {
  /** By the text of the name; the value is the name as it was given. */
  readonly #channels = new Map<string, CommandArgument>();
  readonly #patterns = new Map<string, CommandArgument>();

  /** Remembers what a command changes. Returns how many pushes will answer it; 0 when it is no subscription. */
  note(args: readonly CommandArgument[]): number {
    const name = args[0];
    // The cheapest test that lets no subscription through: all five names end in SUBSCRIBE.
    if (typeof name !== 'string' || name.length < 9 || name.length > 12) return 0;
    const [names, isAdded] = this.#kind(name.toUpperCase());
    if (names === undefined) return 0;
    if (isAdded) {
      for (const item of args.slice(1)) names.set(textOf(item), item);
      return args.length - 1;
    }
    if (args.length > 1) {
      for (const item of args.slice(1)) names.delete(textOf(item));
      return args.length - 1;
    }
    const count = Math.max(1, names.size);
    names.clear();
    return count;
  }

  /** The commands that make a new connection listen to everything. */
  commands(): CommandArgument[][] {
    return [
      ['SUBSCRIBE', ...this.#channels.values()],
      ['PSUBSCRIBE', ...this.#patterns.values()],
    ].filter((args) => args.length > 1);
  }

  #kind(command: string): [names: Map<string, CommandArgument> | undefined, isAdded: boolean] {
    switch (command) {
      case 'SUBSCRIBE':
        return [this.#channels, true];
      case 'PSUBSCRIBE':
        return [this.#patterns, true];
      case 'UNSUBSCRIBE':
        return [this.#channels, false];
      case 'PUNSUBSCRIBE':
        return [this.#patterns, false];
    }
    return [undefined, false];
  }
}

function textOf(name: CommandArgument): string {
  return typeof name === 'object' ? Buffer.from(name).toString('latin1') : String(name);
}
