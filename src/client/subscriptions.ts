/**
 * The channels and patterns that a client listens to, so that a new connection listens to them too.
 *
 * Invariant: a name is held from the push that confirms its subscription until the push that
 * confirms its end. A subscription that the server refuses changes nothing.
 */
import type { CommandArgument } from './command-encoder.ts';
import type { Confirmations } from './connection.ts';
import type { Reply } from './reply.ts';
import { textOf } from './shared-connection.ts';

type Kind = 'subscribe' | 'psubscribe' | 'ssubscribe';

const KINDS: Readonly<Record<string, [kind: Kind, isAdded: boolean]>> = {
  subscribe: ['subscribe', true],
  unsubscribe: ['subscribe', false],
  psubscribe: ['psubscribe', true],
  punsubscribe: ['psubscribe', false],
  ssubscribe: ['ssubscribe', true],
  sunsubscribe: ['ssubscribe', false],
};

export class Subscriptions {
  /** By the bytes of the name as latin1 text. */
  readonly #names: Readonly<Record<Kind, Map<string, Buffer>>> = {
    subscribe: new Map(),
    psubscribe: new Map(),
    ssubscribe: new Map(),
  };

  /** Which pushes will answer a command; 0 when it is no subscription. */
  confirmationsOf(args: readonly CommandArgument[]): Confirmations {
    const name = textOf(args[0]);
    // The cheapest test that lets no subscription through: all six names end in SUBSCRIBE.
    if (name.length < 9 || name.length > 12) return 0;
    const found = KINDS[name.toLowerCase()];
    if (found === undefined) return 0;
    const [kind, isAdded] = found;
    // Without names the server ends all of them, one push for each, or one push for none.
    if (args.length === 1) return isAdded ? 0 : () => this.#names[kind].size === 0;
    return args.length - 1;
  }

  /** A push: what it confirms is so from now on. */
  onPush(items: readonly Reply[]): void {
    const found = KINDS[String(items[0])];
    const name = items[1];
    if (found === undefined || !(name instanceof Uint8Array)) return;
    const [kind, isAdded] = found;
    const key = Buffer.from(name).toString('latin1');
    if (isAdded) this.#names[kind].set(key, Buffer.from(name));
    else this.#names[kind].delete(key);
  }

  /** The commands that make a new connection listen to everything. */
  commands(): CommandArgument[][] {
    return Object.entries(this.#names)
      .filter(([, names]) => names.size > 0)
      .map(([kind, names]) => [kind.toUpperCase(), ...names.values()]);
  }
}
