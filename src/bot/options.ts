/** The options of a bot, their defaults and checks. */
import type { Broker } from '../broker/broker.ts';
import { checkOptions, count, invalid, type OptionTable, timeout } from '../client/option-table.ts';
import { isServiceName } from '../registry/record.ts';
import type { Registry } from '../registry/registry.ts';
import type { Log } from '../rpc/context.ts';
import type { Scheduler } from '../util/time/scheduler.ts';
import { INPUT_NAMES, type InputName } from './inputs/input.ts';

export interface SlackOptions {
  /** The token of the bot's user, `xoxb-`: sends answers. */
  readonly token: string;
  /** The token of the app, `xapp-`: opens the socket that messages come by. */
  readonly appToken: string;
  /** Default Slack's. */
  readonly apiUrl?: string;
}

export interface DiscordOptions {
  readonly token: string;
  /**
   * Messages that begin with it are for the bot, beside those that mention it. Default `Micro `. With the
   * empty text only mentions are, and the bot needs no message content intent.
   */
  readonly prefix?: string;
  /** Default Discord's. */
  readonly apiUrl?: string;
}

export interface TelegramOptions {
  readonly token: string;
  /** Default Telegram's; another one is a Bot API server of one's own. */
  readonly apiUrl?: string;
}

export interface BotOptions {
  /** `slack`, `discord`, `telegram`, `terminal`. */
  readonly inputs: readonly InputName[];
  readonly slack?: SlackOptions;
  readonly discord?: DiscordOptions;
  readonly telegram?: TelegramOptions;
  /** Users who get answers: `slack:U0123ABCD`, `telegram:ann`; `slack:*` is every user. Default none. */
  readonly allow?: readonly string[];
  /** Users who may also call services and change the registry. Default none. */
  readonly operators?: readonly string[];
  /** A service `<namespace>.<word>` is the command `word`. Default `go.micro.bot`. */
  readonly namespace?: string;
  /** Where services are, and where the audit is written: without one nothing that changes something runs. */
  readonly broker?: string | Broker;
  readonly registry?: string | Registry;
  readonly transport?: string;
  readonly selector?: string;
  /** Commands that run at once, of one user all but one. Default 4. */
  readonly concurrency?: number;
  /** Commands that wait; further ones are refused. Default 64, of one user a quarter. */
  readonly maxWaiting?: number;
  /** Until a command must have ended. Default 10 000. */
  readonly timeoutMs?: number;
  /** Messages of an answer; the rest is left out. Default 5. */
  readonly maxPieces?: number;
  /** How old a message may be when it comes; older ones are answered and not run. Default 300 000. */
  readonly maxAgeMs?: number;
  readonly log?: Log;
  readonly scheduler?: Scheduler;
}

const any = { kind: 'other', check() {} } as const;
const list = {
  kind: 'other',
  check(value: unknown, name: string) {
    if (!Array.isArray(value) || value.some((each) => typeof each !== 'string')) {
      throw invalid(`${name} must be a list of texts`);
    }
  },
} as const;

const TABLE: OptionTable = {
  inputs: list,
  slack: {
    kind: 'group',
    table: { token: { kind: 'text' }, appToken: { kind: 'text' }, apiUrl: { kind: 'text' } },
  },
  discord: {
    kind: 'group',
    table: { token: { kind: 'text' }, prefix: { kind: 'text' }, apiUrl: { kind: 'text' } },
  },
  telegram: { kind: 'group', table: { token: { kind: 'text' }, apiUrl: { kind: 'text' } } },
  allow: list,
  operators: list,
  namespace: { kind: 'text' },
  broker: any,
  registry: any,
  transport: any,
  selector: any,
  concurrency: count(1, 1000),
  maxWaiting: count(1, 100_000),
  timeoutMs: timeout(1),
  maxPieces: count(1, 1000),
  maxAgeMs: timeout(1),
  log: any,
  scheduler: any,
};

/** Throws INVALID_ARGUMENT. */
export function checkBotOptions(options: BotOptions): void {
  checkOptions(TABLE, options);
  const { inputs = [], namespace = 'go.micro.bot' } = options;
  if (inputs.length === 0) throw invalid(`inputs is empty: there are ${INPUT_NAMES.join(', ')}`);
  for (const name of inputs) {
    if (INPUT_NAMES.includes(name)) continue;
    const hint = `there are ${INPUT_NAMES.join(', ')}`;
    const gone = (name as string) === 'hipchat' ? 'HipChat ended in 2019' : 'it is not known';
    throw invalid(`input ${JSON.stringify(name)}: ${gone}; ${hint}`);
  }
  if (new Set(inputs).size !== inputs.length) throw invalid('inputs names an input twice');
  if (!isServiceName(`${namespace}.x`) || namespace === '') {
    throw invalid(`namespace ${JSON.stringify(namespace)} is no beginning of service names`);
  }
}
