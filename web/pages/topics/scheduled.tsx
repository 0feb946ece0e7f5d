/** Messages of a topic that are not published yet. */
import type { ScheduledPage as Scheduled, ScheduledRow } from '../../../src/console/api-types.ts';
import { Action } from '../../parts/actions/action.tsx';
import { Preview } from '../../parts/body.tsx';
import { Missing, Notice, Show } from '../../parts/states.tsx';
import { type Column, Table } from '../../parts/table.tsx';
import { Time } from '../../parts/time.tsx';
import { TopicFrame } from '../../parts/topic-frame.tsx';
import type { PageProps } from '../../routes.ts';
import { bytes, many } from '../../state/format.ts';
import { useResource } from '../../state/resource.ts';
import { part } from '../../state/router.ts';
import { missing } from '../../state/session.ts';

export function ScheduledPage({ parts: [topic = ''] }: PageProps) {
  const why = missing('schedule');
  const path = `/topics/${part(topic)}/scheduled`;
  const page = useResource<Scheduled>(why === null ? path : null);
  const columns: readonly Column<ScheduledRow>[] = [
    { title: 'Number', isHead: true, cell: ({ number }) => number },
    { title: 'Due', cell: ({ dueAt }) => <Time at={dueAt} /> },
    { title: 'Body', width: 'wide', cell: ({ preview }) => <Preview of={preview} /> },
    { title: 'Size', isNumber: true, cell: (row) => bytes(row.bytes) },
    {
      title: 'Actions',
      isActions: true,
      cell: ({ number }) => (
        <div class="row-actions">
          <Action
            verb="topic.cancelScheduled"
            target={{ topic, number }}
            about={`message ${number}`}
            quiet
            done={page.reload}
          />
        </div>
      ),
    },
  ];
  return (
    <TopicFrame topic={topic} api={[path]} changed={page.reload}>
      {why !== null ? (
        <Missing what="Nothing can be scheduled here" why={why} />
      ) : (
        <Show of={page}>
          {({ total, entries }) =>
            entries.length === 0 ? (
              <Notice kind="empty" title="Nothing is scheduled">
                <p>A message with a delay or a time waits here until it is due.</p>
              </Notice>
            ) : (
              <div class="section">
                <p class="muted">{many(total, 'message')}, the next one first</p>
                <Table
                  caption={`Scheduled messages of ${topic}`}
                  rows={entries}
                  keyOf={({ number }) => number}
                  columns={columns}
                  total={total}
                />
              </div>
            )
          }
        </Show>
      )}
    </TopicFrame>
  );
}
