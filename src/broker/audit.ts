/**
 * The audit: who did what to topics, services and workflows through the console or the bot, and why.
 *
 * Holds: the form of an entry of the stream `_rivulet.audit`, and its writer. An action has two entries
 * with one `action` id: an intent before it, an outcome after it. Invariants: an action whose intent
 * cannot be stored is refused, and nothing is done; no entry holds a body or a password; texts are cut at
 * MAX_TEXT characters. Cost: two small entries per action.
 */
import { RivuletError } from '../errors.ts';
import type { Message } from './message/message.ts';

export const AUDIT_TOPIC = '_rivulet.audit';
/** Older entries are removed; an entry has about 300 bytes. */
export const AUDIT_MAX_LENGTH = 1_000_000;
const MAX_TEXT = 512;

export interface AuditedAction {
  /** Who acts: a user of the server, or `slack:U1` for one of the bot's. */
  readonly user: string;
  /** From where: an IP address, or a channel of a chat service. */
  readonly address: string;
  /** What: `dead.redrive`, `bot.call`. */
  readonly verb: string;
  /** On what: a topic, a group, `service Struct.Method`. */
  readonly target: string;
  /** How many things the action is about. */
  readonly count: number;
  readonly reason: string;
}

export interface AuditEntry extends AuditedAction {
  /** `refused` is an outcome without an intent: the user may not do this. */
  readonly phase: 'intent' | 'done' | 'failed' | 'refused';
  /** Equal in the intent and the outcome of one action. */
  readonly action: string;
  /** Why it failed or was refused; empty otherwise. */
  readonly error: string;
}

export interface AuditSetup {
  /** Stores one entry in AUDIT_TOPIC, trimmed to about AUDIT_MAX_LENGTH entries. */
  readonly append: (entry: Message) => Promise<unknown>;
  /** A new id, unique among all processes. */
  readonly uniqueName: () => string;
  /** Called when an outcome cannot be stored: the action has been done. */
  readonly report: (text: string) => void;
}

export class Audit {
  readonly #setup: AuditSetup;

  constructor(setup: AuditSetup) {
    this.#setup = setup;
  }

  /**
   * Stores the intent, does the work, stores the outcome. Rejects with UNAVAILABLE, and does nothing,
   * where the intent cannot be stored; otherwise as the work does.
   */
  async record<T>(action: AuditedAction, work: () => Promise<T>): Promise<T> {
    const id = this.#setup.uniqueName();
    try {
      await this.#append({ ...action, phase: 'intent', action: id, error: '' });
    } catch (cause) {
      const why = (cause as Error).message;
      const text = `nothing was done, because the audit ${AUDIT_TOPIC} cannot be written: ${why}`;
      throw new RivuletError('UNAVAILABLE', text, { cause, sent: 'no' });
    }
    try {
      const result = await work();
      await this.#outcome({ ...action, phase: 'done', action: id, error: '' });
      return result;
    } catch (error) {
      await this.#outcome({ ...action, phase: 'failed', action: id, error: textOf(error) });
      throw error;
    }
  }

  /** Stores that a user tried what he may not do, or that something was done which changes nothing. */
  async note(
    action: AuditedAction,
    phase: 'done' | 'failed' | 'refused',
    error = '',
  ): Promise<void> {
    await this.#outcome({ ...action, phase, action: this.#setup.uniqueName(), error });
  }

  async #outcome(entry: AuditEntry): Promise<void> {
    try {
      await this.#append(entry);
    } catch (error) {
      const { user, verb, target, phase } = entry;
      const what = `${verb} ${target} by ${user}: ${phase}`;
      this.#setup.report(`the audit ${AUDIT_TOPIC} misses ${what}: ${textOf(error)}`);
    }
  }

  async #append(entry: AuditEntry): Promise<void> {
    await this.#setup.append(auditMessage(entry));
  }
}

/** The entry as it is stored: JSON. */
function auditMessage(entry: AuditEntry): Message {
  const { user, address, verb, target, reason, error } = entry;
  const texts = { user, address, verb, target, reason, error };
  const cut = Object.fromEntries(
    Object.entries(texts).map(([name, text]) => [name, text.slice(0, MAX_TEXT)]),
  );
  const { phase, action, count } = entry;
  return {
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ phase, action, ...cut, count }),
  };
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
