/**
 * A journal as people and programs read it: one event for each record.
 */
import type { JournalRecord, Note } from './journal/records.ts';

/** One record of a history, for people and programs. */
export interface HistoryEvent {
  /** The record's id in the journal. */
  readonly id: string;
  readonly at: Date;
  /** `start`, `step`, `signal`, `suspend`, `end` ... */
  readonly kind: string;
  /** The number of the operation; negative for the compensation of a step. */
  readonly n?: number;
  /** The name of the step, signal, child or topic. */
  readonly name?: string;
  readonly attempt?: number;
  readonly durationMs?: number;
  readonly value?: unknown;
  readonly error?: { readonly name: string; readonly message: string; readonly code?: string };
  /** Everything else that the record says. */
  readonly detail: Readonly<Record<string, unknown>>;
}

export function historyOf(records: readonly JournalRecord[]): HistoryEvent[] {
  const names = new Map<number, string>();
  for (const { data } of records) {
    for (const [n, , name] of (data as { o?: readonly Note[] }).o ?? []) names.set(n, name);
  }
  return records.map(({ id, at, kind, data }) => {
    // `since`, `st`, `p`, `ver` and `cut` repeat what other records say.
    const { n, a, ms, ok, e, o, name, since, st, p, ver, cut, ...rest } = data as unknown as Record<
      string,
      never
    > & {
      n?: number;
      a?: number;
      ms?: number;
      e?: HistoryEvent['error'];
      o?: readonly Note[];
      name?: string;
    };
    const called = n === undefined ? name : (names.get(Math.abs(n)) ?? name);
    const asked = (o ?? []).map(([at, what, label]) => `${at} ${what} ${label}`.trim());
    return {
      id,
      at: new Date(at),
      kind: kind === 'step' && n !== undefined && n < 0 ? 'undo' : kind,
      ...(n === undefined ? {} : { n }),
      ...(called === undefined || called === '' ? {} : { name: called }),
      ...(a === undefined ? {} : { attempt: a }),
      ...(ms === undefined ? {} : { durationMs: ms }),
      ...('ok' in data ? { value: ok } : {}),
      ...(e === undefined ? {} : { error: e }),
      detail: asked.length === 0 ? rest : { ...rest, asked },
    };
  });
}
