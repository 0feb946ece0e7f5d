/** Who did what, why, and how it ended. */
import type { AuditPage as Audit, AuditRow } from '../../src/console/api-types.ts';
import { Page } from '../parts/page.tsx';
import { Missing, Notice, Show } from '../parts/states.tsx';
import { type Column, Table } from '../parts/table.tsx';
import { Tag, type Tone } from '../parts/tag.tsx';
import { Time } from '../parts/time.tsx';
import { count, visible } from '../state/format.ts';
import { useResource } from '../state/resource.ts';
import { BASE, queryOf, withQuery } from '../state/router.ts';
import { missing } from '../state/session.ts';

const TONES: Record<AuditRow['phase'], Tone> = {
  intent: 'idle',
  done: 'good',
  failed: 'bad',
  refused: 'warn',
};

const columns: readonly Column<AuditRow>[] = [
  { title: 'What', isHead: true, cell: ({ verb }) => verb },
  { title: 'Result', cell: ({ phase }) => <Tag tone={TONES[phase]}>{phase}</Tag> },
  { title: 'At', cell: ({ at }) => <Time at={at} /> },
  {
    title: 'User',
    cell: ({ user, address }) => (
      <>
        {visible(user) || 'anyone'} <span class="muted">{visible(address)}</span>
      </>
    ),
  },
  { title: 'Target', cell: ({ target }) => <code>{visible(target)}</code> },
  { title: 'Count', isNumber: true, cell: (row) => count(row.count) },
  { title: 'Why', cell: ({ reason }) => visible(reason) },
  { title: 'Note', cell: ({ error }) => <span class="muted">{visible(error)}</span> },
];

export function AuditPage() {
  const why = missing('audit');
  const before = queryOf('before');
  const path = `/audit${before === '' ? '' : `?before=${encodeURIComponent(before)}`}`;
  const audit = useResource<Audit>(why === null ? path : null);
  return (
    <Page title="Audit" api={[path]}>
      {why !== null ? (
        <Missing what="No audit" why={why} />
      ) : (
        <Show of={audit}>
          {({ entries, next }) =>
            entries.length === 0 ? (
              <Notice kind="empty" title={before === '' ? 'No action yet' : 'No earlier action'}>
                <p>
                  Each action of this console is written to the stream <code>_rivulet.audit</code>{' '}
                  before and after it is done.
                </p>
              </Notice>
            ) : (
              <div class="section">
                <Table caption="Actions" rows={entries} keyOf={({ id }) => id} columns={columns} />
                <div class="more">
                  {before !== '' && (
                    <a class="button" href={BASE + withQuery({ before: null })}>
                      Newest
                    </a>
                  )}
                  {next !== null && (
                    <a class="button" href={BASE + withQuery({ before: next })}>
                      Earlier
                    </a>
                  )}
                </div>
              </div>
            )
          }
        </Show>
      )}
    </Page>
  );
}
