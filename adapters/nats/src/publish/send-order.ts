/**
 * The order of the publishes to one subject, in a cluster whose streams change their leaders.
 *
 * Publishes that a leader had not stored when it ended are lost without an error. The next leader would
 * store later publishes before the earlier ones are sent again. So at most MOST_SENT publishes of a subject
 * are unacknowledged, none is sent while one is unacknowledged for HOLD_MS, and after a failure they are
 * sent one by one at first. If one fails, those that wait behind it fail with it, and are tried again in
 * the order of their calls (outage-retry.ts).
 * What falls short: a leader that steps down while it lives has its successor within HOLD_MS; of the
 * publishes that are unacknowledged then, some may be stored behind later ones.
 * Invariants: each publish is sent or fails, once; none waits unless an earlier one is unacknowledged.
 * Cost: one map entry for each unacknowledged publish.
 */
import { isOutage, RivuletError } from 'rivulet/adapter';

/** Other nodes need longer than this to miss a leader that has died. */
const HOLD_MS = 100;
const MOST_SENT = 256;
/** Subjects without publishes of which is known that one failed. */
const MOST_SLOW = 1000;

/** A publish that was sent, and is not acknowledged. */
export interface Sent {
  readonly token: string;
  readonly subject: string;
  readonly since: number;
}

export interface Held {
  send(): void;
  fail(error: RivuletError): void;
}

interface Line<S extends Sent> {
  /** By their tokens, in the order of sending. */
  readonly sent: Map<string, S>;
  readonly held: Held[];
  /** How many may be unacknowledged. */
  window: number;
}

export class SendOrder<S extends Sent> {
  readonly #lines = new Map<string, Line<S>>();

  /** Sends it now, or after the earlier ones of its subject. */
  send(subject: string, now: number, publish: Held): void {
    const line = this.#lines.get(subject);
    if (line === undefined || (line.held.length === 0 && roomIn(line, now) > 0)) publish.send();
    else line.held.push(publish);
  }

  sent(asked: S): void {
    let line = this.#lines.get(asked.subject);
    if (line === undefined) {
      line = { sent: new Map(), held: [], window: MOST_SENT };
      this.#lines.set(asked.subject, line);
    }
    line.sent.set(asked.token, asked);
  }

  /** The publishes of its subject that were sent before it, and are not acknowledged. */
  before({ subject, token }: S): S[] {
    const earlier: S[] = [];
    for (const each of this.#lines.get(subject)?.sent.values() ?? []) {
      if (each.token === token) break;
      earlier.push(each);
    }
    return earlier;
  }

  acknowledged({ subject, token }: S, now: number): void {
    const line = this.#lines.get(subject);
    if (line === undefined) return;
    line.sent.delete(token);
    line.window = Math.min(MOST_SENT, line.window + 1);
    this.#release(subject, line, now);
  }

  /** After a failure that is no outage, the later ones of its subject are sent. */
  failed({ subject, token }: S, error: RivuletError, now: number): void {
    const line = this.#lines.get(subject);
    if (line === undefined) return;
    line.sent.delete(token);
    if (isOutage(error)) {
      line.window = 1;
      const text = `an earlier publish to ${subject} was not stored`;
      const late = new RivuletError('NOT_CONNECTED', text, { cause: error });
      for (const each of line.held.splice(0)) each.fail(late);
    }
    this.#release(subject, line, now);
  }

  #release(subject: string, line: Line<S>, now: number): void {
    if (line.held.length > 0) {
      for (const each of line.held.splice(0, roomIn(line, now))) each.send();
    }
    if (line.sent.size > 0 || line.held.length > 0) return;
    if (line.window === MOST_SENT || this.#lines.size > MOST_SLOW) this.#lines.delete(subject);
  }
}

/** How many may be sent now. */
function roomIn<S extends Sent>({ sent, window }: Line<S>, now: number): number {
  const [oldest] = sent.values();
  if (oldest !== undefined && now - oldest.since >= HOLD_MS) return 0;
  return Math.max(0, window - sent.size);
}
