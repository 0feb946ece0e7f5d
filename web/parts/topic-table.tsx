/** Topics as a table, on the pages that list them. */
import type { TopicRow } from '../../src/console/api-types.ts';
import { bytes, count, short, visible } from '../state/format.ts';
import { BASE, part } from '../state/router.ts';
import { type Column, Table } from './table.tsx';
import { Time } from './time.tsx';

const DOWN = 'descending' as const;

const columns: readonly Column<TopicRow>[] = [
  {
    title: 'Topic',
    isHead: true,
    sort: { by: 'name', direction: 'ascending' },
    cell: (row) => (
      <>
        <a href={`${BASE}/topics/${part(row.name)}`}>{visible(row.name)}</a>
        {row.deadOf !== null && <span class="muted"> dead letters</span>}
      </>
    ),
  },
  {
    title: 'Messages',
    isNumber: true,
    sort: { by: 'length', direction: DOWN },
    cell: ({ length }) => count(length),
  },
  {
    title: 'Per second',
    isNumber: true,
    sort: { by: 'rate', direction: DOWN },
    cell: ({ rate }) => short(rate),
  },
  {
    title: 'Lag',
    isNumber: true,
    sort: { by: 'lag', direction: DOWN },
    cell: ({ lag }) => count(lag),
  },
  {
    title: 'Pending',
    isNumber: true,
    sort: { by: 'pending', direction: DOWN },
    cell: ({ pending }) => count(pending),
  },
  { title: 'Groups', isNumber: true, cell: ({ groups }) => count(groups) },
  {
    title: 'Memory',
    isNumber: true,
    sort: { by: 'bytes', direction: DOWN },
    cell: (row) => bytes(row.bytes),
  },
  {
    title: 'Oldest',
    isNumber: true,
    sort: { by: 'oldest', direction: 'ascending' },
    cell: ({ oldestAt }) => <Time at={oldestAt} />,
  },
];

export function TopicTable({
  rows,
  caption,
  sortedBy,
  total,
}: {
  rows: readonly TopicRow[];
  caption: string;
  sortedBy: string;
  total: number;
}) {
  return (
    <Table
      caption={caption}
      rows={rows}
      keyOf={({ name }) => name}
      columns={columns}
      sortedBy={sortedBy}
      total={total}
    />
  );
}
