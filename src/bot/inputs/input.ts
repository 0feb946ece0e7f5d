/**
 * An input: where messages to the bot come from, and where its answers go.
 *
 * Invariants: `open` resolves when messages can come, and rejects with
 * AUTHENTICATION_FAILED where the service refuses the token; an input gives only texts that are addressed
 * to the bot, without the part that addresses it; `closed` resolves when no more messages can come, and
 * the caller opens the input again, unless the reason is InputRefused.
 */
import { RivuletError } from '../../errors.ts';
import type { Log } from '../../rpc/context.ts';
import type { Scheduler } from '../../util/time/scheduler.ts';

export const INPUT_NAMES = ['slack', 'discord', 'telegram', 'terminal'] as const;
export type InputName = (typeof INPUT_NAMES)[number];

export interface Sender {
  readonly input: InputName;
  /** By which lists may name the user: the service's id, then names, `@ann`. */
  readonly names: readonly string[];
  /** The person at the terminal of the process itself, who is an operator. */
  readonly isLocal: boolean;
}

export interface IncomingText {
  readonly text: string;
  readonly sender: Sender;
  /** The channel or chat, for the audit. */
  readonly place: string;
  /** When it was sent, by the service's clock; null where the service does not say. */
  readonly sentAt: number | null;
  /** Sends the pieces of an answer, in order. Rejects where the service does not take one. */
  reply(text: string): Promise<void>;
}

/** What came ended the input: it is not opened again, and the bot that ends with it has failed. */
export class InputRefused extends RivuletError {
  constructor(message: string) {
    super('BODY_TOO_LARGE', message);
  }
}

export interface OpenInput {
  /**
   * With the reason, or null where the input has ended by itself, as a terminal does; with InputRefused where
   * opening it again would not help.
   */
  readonly closed: Promise<Error | null>;
  close(): Promise<void>;
}

export interface Input {
  readonly name: InputName;
  /** UTF-16 units that one answer may have. */
  readonly pieceSize: number;
  /** What `receive` returns resolves when the message was answered, or needs no answer. */
  open(receive: (message: IncomingText) => Promise<void>): Promise<OpenInput>;
}

/** `slack:U1`, for the audit and the log. */
export function shownSender({ input, names }: Sender): string {
  return `${input}:${names[0] ?? ''}`;
}

/** What an input is opened with. */
export interface InputMeans {
  readonly scheduler: Scheduler;
  readonly log: Log;
}
