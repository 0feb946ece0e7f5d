/** Workflows: how many run, which are parked, each instance. */
import type {
  WorkflowCounts,
  WorkflowRow,
  WorkflowsPage as Workflows,
} from '../../src/console/api-types.ts';
import { Page, Section } from '../parts/page.tsx';
import { Missing, Notice, Show } from '../parts/states.tsx';
import { type Column, Table } from '../parts/table.tsx';
import { Tag, type Tone } from '../parts/tag.tsx';
import { Time } from '../parts/time.tsx';
import { count, many, visible } from '../state/format.ts';
import { useResource } from '../state/resource.ts';
import { BASE, part, queryOf, withQuery } from '../state/router.ts';
import { missing } from '../state/session.ts';

const STATUSES = ['running', 'parked', 'completed', 'failed', 'cancelled'];

export function statusTone(status: string): Tone {
  if (status === 'completed' || status === 'done') return 'good';
  if (status === 'failed' || status === 'terminated') return 'bad';
  if (status === 'parked' || status === 'compensating') return 'warn';
  return status === 'running' ? 'busy' : 'idle';
}

export function WorkflowsPage() {
  const why = missing('workflows');
  const query = new URLSearchParams();
  for (const each of ['name', 'status', 'after']) {
    if (queryOf(each) !== '') query.set(each, queryOf(each));
  }
  const path = `/workflows${query.size > 0 ? `?${query}` : ''}`;
  const workflows = useResource<Workflows>(
    why === null ? path : null,
    query.size === 0 ? 'workflows' : `workflows:${query}`,
  );
  return (
    <Page title="Workflows" api={[path]}>
      {why !== null ? (
        <Missing what="No workflows" why={why} />
      ) : (
        <Show of={workflows}>{(page) => <Parts page={page} />}</Show>
      )}
    </Page>
  );
}

function Parts({ page }: { page: Workflows }) {
  const name = queryOf('name');
  const status = queryOf('status');
  if (page.counts.length === 0 && page.instances.length === 0 && name === '' && status === '') {
    return (
      <Notice kind="empty" title="No workflow has run">
        <p>A workflow is there with its first instance:</p>
        <pre class="mono">micro workflow start order order-17 '{'{"total": 42}'}'</pre>
      </Notice>
    );
  }
  const counts: readonly Column<WorkflowCounts>[] = [
    {
      title: 'Workflow',
      isHead: true,
      cell: (row) => (
        <a
          href={BASE + withQuery({ name: row.name === name ? null : row.name, after: null })}
          {...(row.name === name ? { 'aria-current': 'true' as const } : {})}
        >
          {visible(row.name)}
        </a>
      ),
    },
    { title: 'Running', isNumber: true, cell: ({ running }) => count(running) },
    {
      title: 'Parked',
      isNumber: true,
      cell: ({ parked }) => (parked > 0 ? <Tag tone="warn">{count(parked)}</Tag> : '0'),
    },
    { title: 'Ended', isNumber: true, cell: ({ done }) => count(done) },
    { title: 'Parked since', cell: ({ oldestParkedAt }) => <Time at={oldestParkedAt} /> },
    {
      title: 'Waits for a worker',
      cell: ({ waiting }) =>
        waiting
          .map(({ version, tasks }) => `${many(tasks, 'task')} of version ${version}`)
          .join(', '),
    },
  ];
  const instances: readonly Column<WorkflowRow>[] = [
    {
      title: 'Instance',
      isHead: true,
      cell: (row) =>
        row.isSchedule ? (
          <>
            {name === '' ? `${visible(row.name)}, ` : ''}
            schedule {visible(row.id)}
          </>
        ) : (
          <a href={`${BASE}/workflows/${part(row.name)}/${part(row.id)}`}>
            {name === '' ? `${visible(row.name)}/` : ''}
            {visible(row.id)}
          </a>
        ),
    },
    { title: 'Status', cell: (row) => <Tag tone={statusTone(row.status)}>{row.status}</Tag> },
    { title: 'Version', isNumber: true, cell: ({ version }) => count(version) },
    { title: 'Started', cell: ({ startedAt }) => <Time at={startedAt} /> },
    { title: 'Ended', cell: ({ endedAt }) => <Time at={endedAt} /> },
    {
      title: 'Result or reason',
      cell: ({ reason, resultText }) => {
        const text = reason ?? resultText;
        return text === null ? <span class="unknown">—</span> : visible(text);
      },
    },
  ];
  return (
    <>
      {page.counts.length > 0 && (
        <Section title="By name">
          <Table
            caption="Workflows by name"
            rows={page.counts}
            keyOf={(row) => row.name}
            columns={counts}
          />
        </Section>
      )}
      <Section
        title={name === '' ? 'Instances' : `Instances of ${visible(name)}`}
        aside={
          <nav class="aside" aria-label="Status">
            {STATUSES.map((each) => (
              <a
                key={each}
                href={BASE + withQuery({ status: each === status ? null : each, after: null })}
                {...(each === status ? { 'aria-current': 'true' as const } : {})}
              >
                {each}
              </a>
            ))}
          </nav>
        }
      >
        {page.instances.length === 0 ? (
          <Notice
            kind="empty"
            title={
              page.next === null
                ? status === ''
                  ? 'No instance'
                  : `No instance is ${status}`
                : `No instance is ${status} among those that this page looked at`
            }
          >
            <p>
              <a href={BASE + withQuery({ status: null, name: null, after: null })}>Show all</a>
            </p>
          </Notice>
        ) : (
          <Table
            caption="Instances"
            rows={page.instances}
            keyOf={(row) => `${row.name}/${row.id}`}
            columns={instances}
          />
        )}
        {page.next !== null && (
          <div class="more">
            <a class="button" href={BASE + withQuery({ after: page.next })}>
              Further
            </a>
          </div>
        )}
      </Section>
    </>
  );
}
