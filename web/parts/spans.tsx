/** Spans as a tree in a table whose bars are on one scale of time: which service did what, when, for how long. */
import type { SpanRow } from '../../src/console/api-types.ts';
import { duration, visible } from '../state/format.ts';
import { type Column, Table } from './table.tsx';
import { Tag } from './tag.tsx';
import { Time } from './time.tsx';

export function Spans({ of, caption }: { of: readonly SpanRow[]; caption: string }) {
  const from = of.reduce((least, { at }) => Math.min(least, at), Number.POSITIVE_INFINITY);
  const to = of.reduce((most, { at, ms }) => Math.max(most, at + ms), Number.NEGATIVE_INFINITY);
  const columns: readonly Column<SpanRow>[] = [
    {
      title: 'What',
      isHead: true,
      cell: (span) => (
        <span style={{ paddingLeft: `${Math.min(8, span.depth)}rem` }}>
          {span.kind} {visible(span.name)}
          {span.attempt !== null && <span class="muted"> attempt {span.attempt}</span>}
        </span>
      ),
    },
    { title: 'By', cell: ({ service, node }) => `${visible(service)} ${visible(node)}` },
    { title: 'At', cell: ({ at }) => <Time at={at} /> },
    { title: 'Took', isNumber: true, cell: ({ ms }) => duration(ms) },
    {
      title: 'When',
      cell: (span) => (
        <Line at={span.at - from} ms={span.ms} of={to - from} isFailed={span.error !== null} />
      ),
    },
    {
      title: 'Result',
      cell: ({ error }) =>
        error === null ? <Tag tone="good">ok</Tag> : <Tag tone="bad">{visible(error)}</Tag>,
    },
  ];
  return <Table caption={caption} rows={of} keyOf={keyOf} columns={columns} />;
}

function Line({ at, ms, of, isFailed }: { at: number; ms: number; of: number; isFailed: boolean }) {
  const span = Math.max(0.001, of);
  return (
    <div class="timeline" aria-hidden="true">
      <span
        class={isFailed ? 'failed' : ''}
        style={{ left: `${(at / span) * 100}%`, width: `${Math.max(0.5, (ms / span) * 100)}%` }}
      />
    </div>
  );
}

/** Two traces may use the same id of a span. */
function keyOf({ traceId, spanId, at }: SpanRow): string {
  return `${traceId} ${spanId} ${at}`;
}
