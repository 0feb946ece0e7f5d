/** An instance whose journal was removed, or parts of it: it is parked with the reason, and not started again. */
import type { JournalStore, JournalTask } from '../../broker/journal.ts';
import { journalKey, listKey, WORKERS } from '../journal/keys.ts';
import { findListed } from '../journal/listing.ts';
import { listFields } from '../journal/starting.ts';

export interface LostInstance {
  readonly name: string;
  readonly id: string;
  /** The task that brought it here. */
  readonly task: JournalTask;
}

/** `near` is about the time at which it was listed, Unix ms; `found` is what is wrong with the journal. */
export async function parkLost(
  store: JournalStore,
  { name, id, task }: LostInstance,
  v: number,
  near: number,
  found = '',
): Promise<void> {
  const ack = { kind: 'ack', key: task.topic, group: WORKERS, id: task.id } as const;
  const running = listKey(name, 'running');
  const listed = await findListed(store, running, id, near);
  if (listed === null) return store.apply([ack]);
  const lost = found === '' ? `the stream ${journalKey(name, id)} is gone` : found;
  const why = `JOURNAL_LOST: ${lost}; what the instance had done is not known`;
  await store.apply([
    ack,
    { kind: 'delete', key: running, ids: [listed] },
    {
      kind: 'add',
      key: listKey(name, 'parked'),
      fields: listFields({ id, v, why, code: 'JOURNAL_LOST' }),
    },
  ]);
}
