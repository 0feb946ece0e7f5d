/** One group: its consumers, its policy, and each message that it holds; with an action for each. */
import { useState } from 'preact/hooks';
import type {
  ConsumerRow,
  GroupDetail,
  PendingPage,
  PendingRow,
} from '../../../src/console/api-types.ts';
import { Action } from '../../parts/actions/action.tsx';
import { Code } from '../../parts/code.tsx';
import { Figures } from '../../parts/figures/figures.tsx';
import { Page, Section } from '../../parts/page.tsx';
import { Missing, Notice, Show } from '../../parts/states.tsx';
import { type Column, Table } from '../../parts/table.tsx';
import { Tag } from '../../parts/tag.tsx';
import type { PageProps } from '../../routes.ts';
import { count, duration, many, UNKNOWN, visible } from '../../state/format.ts';
import { useResource } from '../../state/resource.ts';
import { BASE, go, part, queryOf, setQuery, withQuery } from '../../state/router.ts';
import { missing } from '../../state/session.ts';
import { PolicyText } from './topic.tsx';

export function GroupPage({ parts: [topic = '', group = ''] }: PageProps) {
  const base = `/topics/${part(topic)}/groups/${part(group)}`;
  const name = `group:${encodeURIComponent(topic)}/${encodeURIComponent(group)}`;
  const detail = useResource<GroupDetail>(base, name);
  const query = new URLSearchParams();
  for (const each of ['after', 'consumer', 'minIdle']) {
    if (queryOf(each) !== '') query.set(each, queryOf(each));
  }
  const pendingPath = `${base}/pending${query.size > 0 ? `?${query}` : ''}`;
  const target = { topic, group };
  const about = visible(group);
  return (
    <Page
      title={about}
      kind="group"
      crumbs={[
        { text: 'Topics', to: '/topics' },
        { text: visible(topic), to: `/topics/${part(topic)}` },
      ]}
      api={[base, pendingPath]}
      actions={
        <>
          <Action
            verb="group.policy"
            target={target}
            about={about}
            done={detail.reload}
            initial={policyOf(detail.value)}
          />
          <Action verb="group.replay" target={target} about={about} done={detail.reload} />
          <Action
            verb="group.delete"
            target={target}
            about={about}
            done={() => go(`/topics/${part(topic)}`)}
          />
        </>
      }
    >
      <Show of={detail}>
        {(value) => (
          <>
            <Figures
              large
              figures={[
                { label: 'Lag', value: count(value.lag) },
                { label: 'Pending', value: count(value.pending) },
                { label: 'Oldest pending', value: duration(value.oldestPendingMs) },
                { label: 'Consumers', value: count(value.consumers) },
                ...(value.redelivered === undefined
                  ? []
                  : [{ label: 'Delivered again', value: count(value.redelivered) }]),
              ]}
            />
            <p>
              <span class="muted">Delivered up to </span>
              <code>{value.lastDeliveredId || UNKNOWN}</code>
              {value.settledUpTo !== undefined && (
                <>
                  <span class="muted">, settled up to </span>
                  <code>{value.settledUpTo}</code>
                </>
              )}
              <span class="muted">. Policy: </span>
              <PolicyText of={value.policy} />.
            </p>
            <Consumers of={value} />
          </>
        )}
      </Show>
      <Pending topic={topic} group={group} path={pendingPath} detail={detail.value} />
    </Page>
  );
}

function policyOf(detail: GroupDetail | undefined): Record<string, string> {
  const policy = detail?.policy;
  if (policy === null || policy === undefined) return {};
  return {
    ackWaitMs: policy.ackWaitMs === null ? '' : String(policy.ackWaitMs),
    maxDeliveries: policy.maxDeliveries === null ? '' : String(policy.maxDeliveries),
    deadLetter: policy.deadLetter ?? '',
    backoffMs: policy.backoffMs.join(', '),
  };
}

function Consumers({ of }: { of: GroupDetail }) {
  const why = missing('consumers');
  const chosen = queryOf('consumer');
  const columns: readonly Column<ConsumerRow>[] = [
    {
      title: 'Consumer',
      isHead: true,
      cell: ({ name }) => (
        <a
          href={BASE + withQuery({ consumer: name === chosen ? null : name, after: null })}
          {...(name === chosen ? { 'aria-current': 'true' as const } : {})}
        >
          {visible(name)}
        </a>
      ),
    },
    { title: 'In flight', isNumber: true, cell: ({ pending }) => count(pending) },
    {
      title: 'Last asked',
      isNumber: true,
      cell: ({ idleMs }) => `${duration(idleMs)} ago`,
    },
    {
      title: 'Last received',
      isNumber: true,
      cell: ({ inactiveMs }) => (inactiveMs === null ? 'never' : `${duration(inactiveMs)} ago`),
    },
  ];
  return (
    <Section title="Consumers" aside={why === null ? count(of.consumerRows.length) : undefined}>
      {why !== null ? (
        <Missing what="Consumers are not listed" why={why} />
      ) : of.consumerRows.length === 0 ? (
        <Notice kind="empty" title="No consumer reads for this group">
          <p>Messages wait until one comes; none is lost.</p>
        </Notice>
      ) : (
        <Table
          caption={`Consumers of ${of.name}`}
          rows={of.consumerRows}
          keyOf={({ name }) => name}
          columns={columns}
        />
      )}
    </Section>
  );
}

function Pending({
  topic,
  group,
  path,
  detail,
}: {
  topic: string;
  group: string;
  path: string;
  detail: GroupDetail | undefined;
}) {
  const why =
    missing('pending') ??
    (missing('settle') !== null && detail?.pending === undefined ? missing('settle') : null);
  const page = useResource<PendingPage>(missing('pending') === null ? path : null);
  const [chosen, choose] = useState<ReadonlySet<string>>(new Set());
  const consumer = queryOf('consumer');
  const done = () => {
    choose(new Set());
    page.reload();
  };
  const columns: readonly Column<PendingRow>[] = [
    {
      title: 'Id',
      isHead: true,
      cell: ({ id }) => (
        <a class="id" href={`${BASE}/journey/${part(topic)}/${id}`}>
          {id}
        </a>
      ),
    },
    {
      title: 'Holder',
      cell: (row) =>
        row.consumer === '' ? (
          <Tag tone="idle">waits for its next delivery</Tag>
        ) : (
          <Code of={row.consumer} />
        ),
    },
    { title: 'Idle', isNumber: true, cell: ({ idleMs }) => duration(idleMs) },
    { title: 'Attempt', isNumber: true, cell: ({ attempts }) => count(attempts) },
    {
      title: 'Due in',
      isNumber: true,
      cell: ({ dueInMs }) =>
        dueInMs === null ? (
          <span class="unknown">—</span>
        ) : dueInMs <= 0 ? (
          'now'
        ) : (
          duration(dueInMs)
        ),
    },
    {
      title: 'Last reason',
      cell: ({ reason }) =>
        reason === null ? <span class="unknown">—</span> : <span>{visible(reason)}</span>,
    },
    {
      title: 'Actions',
      isActions: true,
      cell: ({ id }) => (
        <div class="row-actions">
          <Action
            verb="pending.deliver"
            target={{ topic, group, ids: [id] }}
            about={id}
            quiet
            done={done}
          />
          <Action
            verb="pending.deadLetter"
            target={{ topic, group, ids: [id] }}
            about={id}
            quiet
            done={done}
          />
        </div>
      ),
    },
  ];
  const ids = [...chosen];
  return (
    <Section
      title="Pending"
      aside={
        consumer === '' ? undefined : (
          <>
            of {visible(consumer)}
            <button type="button" class="link" onClick={() => setQuery({ consumer: null }, 'step')}>
              show all
            </button>
          </>
        )
      }
    >
      {why !== null ? (
        <Missing what="Pending messages are not listed" why={why} />
      ) : (
        <Show of={page} lines={4}>
          {({ entries, total, next }) =>
            entries.length === 0 ? (
              <Notice kind="empty" title="Nothing is pending">
                <p>Every message that was delivered is settled.</p>
              </Notice>
            ) : (
              <>
                <p class="muted">
                  {many(total, 'message')}
                  {entries.length < total && `, ${count(entries.length)} on this page`}{' '}
                  <button type="button" class="link" onClick={page.reload}>
                    read again
                  </button>
                </p>
                <Table
                  caption={`Pending messages of ${group}`}
                  rows={entries}
                  keyOf={({ id }) => id}
                  columns={columns}
                  total={total}
                  selection={{ chosen, choose }}
                />
                {ids.length > 0 && (
                  <div class="chosen-bar" role="group" aria-label="Chosen messages">
                    <strong>{many(ids.length, 'message')} chosen</strong>
                    {(
                      [
                        'pending.deliver',
                        'pending.giveBack',
                        'pending.claim',
                        'pending.deadLetter',
                        'pending.acknowledge',
                      ] as const
                    ).map((verb) => (
                      <Action
                        key={verb}
                        verb={verb}
                        target={{ topic, group, ids }}
                        about={many(ids.length, 'message')}
                        done={done}
                      />
                    ))}
                  </div>
                )}
                <div class="more">
                  {queryOf('after') !== '' && (
                    <a class="button" href={BASE + withQuery({ after: null })}>
                      From the oldest
                    </a>
                  )}
                  {next !== null && (
                    <a class="button" href={BASE + withQuery({ after: next })}>
                      Further
                    </a>
                  )}
                  {ids.length === 0 && (
                    <>
                      <Action
                        verb="pending.deliver"
                        target={{ topic, group, all: true }}
                        label="Deliver all now"
                        done={done}
                      />
                      <Action
                        verb="pending.deadLetter"
                        target={{ topic, group, all: true }}
                        label="Dead-letter all"
                        done={done}
                      />
                    </>
                  )}
                </div>
              </>
            )
          }
        </Show>
      )}
    </Section>
  );
}
