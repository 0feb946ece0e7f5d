/** The first page: is it ready, how much flows, what waits, and where to look. */
import type { Overview, TopicRow } from '../../src/console/api-types.ts';
import { Bar } from '../parts/figures/bar.tsx';
import { Chart } from '../parts/figures/chart.tsx';
import { Figures } from '../parts/figures/figures.tsx';
import { Page, Section } from '../parts/page.tsx';
import { Missing, Notice, Show } from '../parts/states.tsx';
import { type Column, Table } from '../parts/table.tsx';
import { Tag } from '../parts/tag.tsx';
import { Time } from '../parts/time.tsx';
import { bytes, count, duration, many, short, visible } from '../state/format.ts';
import { useResource } from '../state/resource.ts';
import { BASE, part, queryOf, withQuery } from '../state/router.ts';
import { missing, root } from '../state/session.ts';

export function OverviewPage() {
  const overview = useResource<Overview>('/overview', 'overview');
  return (
    <Page title="Overview" api={['/overview']}>
      <Show of={overview}>
        {(value) => (
          <>
            <Readiness of={value} />
            <Totals of={value} />
            <Flow of={value} />
            <Top of={value} />
            <Troubles of={value} />
          </>
        )}
      </Show>
    </Page>
  );
}

function Readiness({ of }: { of: Overview }) {
  const { oldestPending } = of;
  return (
    <p class="readiness">
      {of.ready ? <Tag tone="good">Ready</Tag> : <Tag tone="bad">Not ready</Tag>}
      {!of.ready && of.reason !== null && <>: {of.reason}</>}
      {of.uptimeMs !== null && <>, for {duration(of.uptimeMs)}</>}.{' '}
      {oldestPending !== null && (
        <>
          The oldest pending message is {duration(oldestPending.idleMs)} old, in{' '}
          <a
            href={`${BASE}/topics/${part(oldestPending.topic)}/groups/${part(oldestPending.group)}`}
          >
            {visible(oldestPending.topic)} / {visible(oldestPending.group)}
          </a>
          .
        </>
      )}
    </p>
  );
}

function Totals({ of: { rates, totals } }: { of: Overview }) {
  return (
    <Figures
      large
      figures={[
        { label: 'Published', value: short(rates.published), unit: '/s' },
        { label: 'Settled', value: short(rates.settled), unit: '/s' },
        { label: 'Topics', value: count(totals.topics), to: '/topics' },
        { label: 'Pending', value: short(totals.pending), to: '/topics?sort=pending' },
        {
          label: 'Dead letters',
          value: short(totals.dead),
          to: '/dead',
          alarm: (totals.dead ?? 0) > 0,
        },
        {
          label: 'Parked workflows',
          value: count(totals.parked),
          to: '/workflows?status=parked',
          alarm: (totals.parked ?? 0) > 0,
        },
        { label: 'Clients', value: count(totals.clients), to: '/server' },
        { label: 'Memory', value: bytes(totals.bytes) },
      ]}
    />
  );
}

function Flow({ of: { series } }: { of: Overview }) {
  const why = missing('rates');
  if (why !== null) return <Missing what="No rates" why={why} />;
  return (
    <Section title="Last 10 minutes">
      <div class="columns">
        <Chart
          title="Messages a second"
          series={series}
          lines={[
            { name: 'published', label: 'published' },
            { name: 'delivered', label: 'delivered' },
            { name: 'settled', label: 'settled' },
          ]}
          format={short}
        />
        <Chart
          title="Bytes a second"
          series={series}
          lines={[
            { name: 'bytesIn', label: 'in' },
            { name: 'bytesOut', label: 'out' },
          ]}
          format={bytes}
        />
      </div>
    </Section>
  );
}

const ORDERS = [
  { by: 'lag', text: 'by lag' },
  { by: 'rate', text: 'by rate' },
  { by: 'bytes', text: 'by memory' },
] as const;

function Top({ of: { top, totals } }: { of: Overview }) {
  const chosen = ORDERS.find(({ by }) => by === queryOf('top'))?.by ?? 'lag';
  const rows = top[chosen];
  const most = Math.max(0, ...rows.map((row) => row[chosen] ?? 0));
  const columns: readonly Column<TopicRow>[] = [
    {
      title: 'Topic',
      isHead: true,
      cell: ({ name }) => <a href={`${BASE}/topics/${part(name)}`}>{visible(name)}</a>,
    },
    {
      title: 'Lag',
      isNumber: true,
      cell: ({ lag }) => (
        <>
          {chosen === 'lag' && <Bar value={lag} most={most} />}
          {count(lag)}
        </>
      ),
    },
    {
      title: 'Per second',
      isNumber: true,
      cell: ({ rate }) => (
        <>
          {chosen === 'rate' && <Bar value={rate} most={most} />}
          {short(rate)}
        </>
      ),
    },
    {
      title: 'Memory',
      isNumber: true,
      cell: (row) => (
        <>
          {chosen === 'bytes' && <Bar value={row.bytes} most={most} />}
          {bytes(row.bytes)}
        </>
      ),
    },
    { title: 'Messages', isNumber: true, cell: ({ length }) => count(length) },
    { title: 'Pending', isNumber: true, cell: ({ pending }) => count(pending) },
  ];
  return (
    <Section
      title="Topics to look at"
      aside={
        <>
          {ORDERS.map(({ by, text }) => (
            <a
              key={by}
              href={BASE + withQuery({ top: by === 'lag' ? null : by })}
              {...(by === chosen ? { 'aria-current': 'true' as const } : {})}
            >
              {text}
            </a>
          ))}
          <a href={`${BASE}/topics`}>
            all{totals.topics === null ? '' : ` ${count(totals.topics)}`}
          </a>
        </>
      }
    >
      {rows.length === 0 ? (
        <FirstSteps />
      ) : (
        <Table
          caption={`Topics ${ORDERS.find(({ by }) => by === chosen)?.text}`}
          rows={rows}
          keyOf={({ name }) => name}
          columns={columns}
        />
      )}
    </Section>
  );
}

function FirstSteps() {
  const address = root.value?.broker.address ?? '';
  return (
    <Notice kind="empty" title="No topic yet">
      <p>A topic is there as soon as a message is published to it. Try it from a terminal:</p>
      <pre class="mono">micro publish orders '{'{"total": 42}'}'</pre>
      <p class="hint">
        Any Redis client does too{address === '' ? '' : `, at ${address}`}: XADD orders * body hello
      </p>
    </Notice>
  );
}

function Troubles({ of: { troubles } }: { of: Overview }) {
  return (
    <Section
      title="Last troubles"
      aside={troubles.length > 0 ? many(troubles.length, 'entry', 'entries') : undefined}
    >
      {troubles.length === 0 ? (
        <p class="muted">None since the server started.</p>
      ) : (
        <ul class="troubles">
          {troubles.slice(0, 20).map(({ at, text }) => (
            <li key={`${at}${text}`}>
              <span class="muted">
                <Time at={at} />
              </span>
              <span>{visible(text)}</span>
            </li>
          ))}
        </ul>
      )}
    </Section>
  );
}
