/**
 * Who may command the bot: users as `input:user`, each named.
 *
 * Invariants: a user in neither list gets no answer; only operators run what changes something; `*` stands
 * for all users of an input in the list of `allow` only; an operator is allowed. Names of
 * Telegram are compared without regard to case, as Telegram does, and never with its ids. Cost: one look-up per name.
 */
import { invalid } from '../client/option-table.ts';
import { INPUT_NAMES, type Sender } from './inputs/input.ts';

export class Permissions {
  readonly #allowed: ReadonlySet<string>;
  readonly #operators: ReadonlySet<string>;

  /** Throws INVALID_ARGUMENT for an entry that names no user of an input. */
  constructor(allow: readonly string[], operators: readonly string[]) {
    this.#operators = new Set(operators.map((each) => entryOf(each, 'operators', false)));
    this.#allowed = new Set(allow.map((each) => entryOf(each, 'allow', true)));
  }

  isAllowed(sender: Sender): boolean {
    if (this.isOperator(sender)) return true;
    return this.#allowed.has(`${sender.input}:*`) || this.#has(this.#allowed, sender);
  }

  isOperator(sender: Sender): boolean {
    return sender.isLocal || this.#has(this.#operators, sender);
  }

  /** Whether any user of the input can get an answer. */
  hasUsersOf(input: string): boolean {
    return [...this.#allowed, ...this.#operators].some((each) => each.startsWith(`${input}:`));
  }

  #has(list: ReadonlySet<string>, { input, names }: Sender): boolean {
    return names.some((name) => list.has(`${input}:${name}`));
  }
}

function entryOf(text: string, list: string, mayBeAll: boolean): string {
  const [, input = '', name = ''] = /^([a-z]+):(\S+)$/.exec(text) ?? [];
  if (!INPUT_NAMES.includes(input as never)) {
    throw invalid(
      `${list} ${JSON.stringify(text)}: write an input and a user of it, such as slack:U0123ABCD`,
    );
  }
  if (name === '*' && !mayBeAll) {
    throw invalid(`${list} ${JSON.stringify(text)}: name each operator`);
  }
  return normal(input, name);
}

/** As inputs give names: of Telegram, digits are an id and all else is a name, `@ann`. */
function normal(input: string, name: string): string {
  if (input !== 'telegram' || /^\d+$/.test(name)) return `${input}:${name}`;
  return `telegram:@${name.replace(/^@/, '').toLowerCase()}`;
}
