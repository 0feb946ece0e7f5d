/** One topic: how much flows, what it holds, how far its groups are. */
import type { GroupRow, TopicDetail } from '../../../src/console/api-types.ts';
import { Bar } from '../../parts/figures/bar.tsx';
import { Chart } from '../../parts/figures/chart.tsx';
import { Figures } from '../../parts/figures/figures.tsx';
import { Section } from '../../parts/page.tsx';
import { Notice, Show } from '../../parts/states.tsx';
import { type Column, Table } from '../../parts/table.tsx';
import { Time } from '../../parts/time.tsx';
import { TopicFrame } from '../../parts/topic-frame.tsx';
import type { PageProps } from '../../routes.ts';
import { bytes, count, duration, short, UNKNOWN, visible } from '../../state/format.ts';
import { useResource } from '../../state/resource.ts';
import { BASE, part, queryOf, withQuery } from '../../state/router.ts';

export function TopicPage({ parts: [topic = ''] }: PageProps) {
  const path = `/topics/${part(topic)}`;
  const detail = useResource<TopicDetail>(path, `topic:${encodeURIComponent(topic)}`);
  return (
    <TopicFrame topic={topic} api={[path, `${path}/groups`]} changed={detail.reload}>
      <Show of={detail}>
        {(value) => (
          <>
            <Facts of={value} />
            <Groups of={value} />
            <History of={value} />
          </>
        )}
      </Show>
    </TopicFrame>
  );
}

function Facts({ of }: { of: TopicDetail }) {
  const dead = of.dead;
  return (
    <>
      <Figures
        large
        figures={[
          { label: 'Messages', value: count(of.length) },
          { label: 'Published', value: short(of.rate), unit: '/s' },
          { label: 'Lag', value: short(of.lag) },
          { label: 'Pending', value: short(of.pending) },
          ...(dead === null
            ? []
            : [
                {
                  label: 'Dead letters',
                  value: count(dead.length),
                  to: `/dead?topic=${encodeURIComponent(of.name)}`,
                  alarm: dead.length > 0,
                },
              ]),
        ]}
      />
      <Figures
        figures={[
          { label: 'In memory', value: bytes(of.bytes) },
          { label: 'On disk', value: bytes(of.bytesOnDisk) },
          { label: 'Oldest message', value: <Time at={of.oldestAt} /> },
          { label: 'Newest message', value: <Time at={of.newestAt} /> },
          { label: 'Ever published', value: count(of.entriesAdded) },
          { label: 'Scheduled', value: count(of.scheduled) },
          { label: 'Retention', value: retentionText(of) },
        ]}
      />
    </>
  );
}

function retentionText({ retention }: TopicDetail): string {
  if (retention === null) return 'keeps all';
  const { maxAgeMs, maxBytes, maxLength } = retention;
  const limits = [
    maxAgeMs === null ? '' : duration(maxAgeMs),
    maxBytes === null ? '' : bytes(maxBytes),
    maxLength === null ? '' : `${count(maxLength)} messages`,
  ].filter(Boolean);
  return limits.length === 0 ? 'keeps all' : `at most ${limits.join(', ')}`;
}

function Groups({ of }: { of: TopicDetail }) {
  const most = Math.max(0, ...of.groupRows.map(({ lag }) => lag ?? 0));
  const columns: readonly Column<GroupRow>[] = [
    {
      title: 'Group',
      isHead: true,
      cell: ({ name }) => (
        <a href={`${BASE}/topics/${part(of.name)}/groups/${part(name)}`}>{visible(name)}</a>
      ),
    },
    {
      title: 'Lag',
      isNumber: true,
      cell: ({ lag }) => (
        <>
          <Bar value={lag} most={most} />
          {count(lag)}
        </>
      ),
    },
    { title: 'Pending', isNumber: true, cell: ({ pending }) => count(pending) },
    { title: 'Consumers', isNumber: true, cell: ({ consumers }) => count(consumers) },
    {
      title: 'Delivered up to',
      cell: (row) => <code class="id">{row.lastDeliveredId || UNKNOWN}</code>,
    },
    { title: 'Policy', cell: ({ policy }) => <PolicyText of={policy} /> },
  ];
  return (
    <Section
      title="Groups"
      aside={
        of.groups > of.groupRows.length
          ? `${count(of.groupRows.length)} of ${count(of.groups)}, those with the longest lag`
          : count(of.groups)
      }
    >
      {of.groupRows.length === 0 ? (
        <Notice kind="empty" title="No group reads this topic">
          <p>A group is made by its first subscriber:</p>
          <pre class="mono">micro subscribe {of.name} --group shipping</pre>
        </Notice>
      ) : (
        <Table
          caption={`Groups of ${of.name}`}
          rows={of.groupRows}
          keyOf={({ name }) => name}
          columns={columns}
        />
      )}
    </Section>
  );
}

export function PolicyText({ of }: { of: GroupRow['policy'] }) {
  if (of === null) return <span class="muted">none</span>;
  const texts = [
    of.ackWaitMs === null ? '' : `deadline ${duration(of.ackWaitMs)}`,
    of.maxDeliveries === null ? '' : `${of.maxDeliveries} attempts`,
    of.backoffMs.length === 0 ? '' : `waits ${of.backoffMs.map(duration).join(', ')}`,
  ].filter(Boolean);
  return (
    <>
      {texts.join(', ')}
      {of.deadLetter !== null && (
        <>
          {texts.length > 0 && ', '}then{' '}
          <a href={`${BASE}/topics/${part(of.deadLetter)}`}>{visible(of.deadLetter)}</a>
        </>
      )}
    </>
  );
}

function History({ of }: { of: TopicDetail }) {
  const isDay = queryOf('span') === 'day';
  const series = isDay ? of.minutes : of.seconds;
  const lags = Object.keys(series?.values ?? {}).filter((name) => name.startsWith('lag:'));
  return (
    <Section
      title={isDay ? 'Last 24 hours' : 'Last 10 minutes'}
      aside={
        <a href={BASE + withQuery({ span: isDay ? null : 'day' })}>
          {isDay ? 'last 10 minutes' : 'last 24 hours'}
        </a>
      }
    >
      {series === null ? (
        <p class="muted">Numbers are recorded from now on, while this topic is looked at.</p>
      ) : (
        <div class="columns">
          <Chart
            title="Published a second"
            series={series}
            lines={[{ name: 'rate', label: 'published' }]}
            format={short}
          />
          {lags.length > 0 && (
            <Chart
              title="Lag of each group"
              series={series}
              lines={lags.map((name) => ({ name, label: visible(name.slice(4)) }))}
              format={short}
            />
          )}
        </div>
      )}
    </Section>
  );
}
