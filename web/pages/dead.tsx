/** Dead letters of all topics: grouped by their reason, redriven or deleted one by one or all together. */
import { useState } from 'preact/hooks';
import type { DeadPage as Dead, DeadRow } from '../../src/console/api-types.ts';
import { Action } from '../parts/actions/action.tsx';
import { editable, Preview } from '../parts/body.tsx';
import { Code } from '../parts/code.tsx';
import { Bar } from '../parts/figures/bar.tsx';
import { Page, Section } from '../parts/page.tsx';
import { Missing, Notice, Show } from '../parts/states.tsx';
import { type Column, Table } from '../parts/table.tsx';
import { Time } from '../parts/time.tsx';
import { API } from '../state/api.ts';
import { count, many, visible } from '../state/format.ts';
import { useResource } from '../state/resource.ts';
import { BASE, part, queryOf, setQuery, withQuery } from '../state/router.ts';
import { missing } from '../state/session.ts';

export function DeadPage() {
  const why = missing('dead');
  const query = new URLSearchParams();
  for (const each of ['topic', 'group', 'after']) {
    if (queryOf(each) !== '') query.set(each, queryOf(each));
  }
  const path = `/dead${query.size > 0 ? `?${query}` : ''}`;
  const dead = useResource<Dead>(
    why === null ? path : null,
    query.size === 0 ? 'dead' : `dead:${query}`,
  );
  return (
    <Page
      title="Dead letters"
      api={[path]}
      actions={
        <button type="button" onClick={dead.reload}>
          Read again
        </button>
      }
    >
      {why !== null ? (
        <Missing what="No dead letters" why={why} />
      ) : (
        <Show of={dead}>{(page) => <Letters page={page} reload={dead.reload} />}</Show>
      )}
    </Page>
  );
}

function Letters({ page, reload }: { page: Dead; reload: () => void }) {
  const chosenReason = queryOf('reason');
  const topic = queryOf('topic');
  if (page.topics.every(({ length }) => length === 0) && page.entries.length === 0) {
    return (
      <Notice kind="empty" title={topic === '' ? 'No dead letter' : 'No dead letter of this topic'}>
        <p>
          A message comes here when its group has tried it as often as its policy allows. Set a
          policy on a group's page.
        </p>
        {topic !== '' && (
          <p>
            <a href={BASE + withQuery({ topic: null, group: null })}>Show all topics</a>
          </p>
        )}
      </Notice>
    );
  }
  const entries =
    chosenReason === ''
      ? page.entries
      : page.entries.filter(({ origin }) => origin.reason === chosenReason);
  return (
    <>
      <div class="columns">
        <Reasons page={page} chosen={chosenReason} />
        <Topics page={page} chosen={topic} />
      </div>
      <List entries={entries} page={page} reload={reload} reason={chosenReason} />
    </>
  );
}

function Reasons({ page, chosen }: { page: Dead; chosen: string }) {
  const most = Math.max(1, ...page.reasons.map((each) => each.count));
  return (
    <Section title="Reasons" aside={`of ${count(page.scanned)} looked at`}>
      <Table
        caption="Dead letters by their reason"
        rows={page.reasons}
        keyOf={({ reason }) => reason}
        columns={[
          {
            title: 'Reason',
            isHead: true,
            cell: ({ reason }) => (
              <a
                href={BASE + withQuery({ reason: reason === chosen ? null : reason })}
                {...(reason === chosen ? { 'aria-current': 'true' as const } : {})}
              >
                {visible(reason) || 'no reason given'}
              </a>
            ),
          },
          {
            title: 'Count',
            isNumber: true,
            cell: (row) => (
              <>
                <Bar value={row.count} most={most} />
                {count(row.count)}
              </>
            ),
          },
        ]}
      />
    </Section>
  );
}

function Topics({ page, chosen }: { page: Dead; chosen: string }) {
  const most = Math.max(1, ...page.topics.map(({ length }) => length));
  return (
    <Section
      title="Topics"
      aside={
        chosen === '' ? undefined : (
          <button type="button" class="link" onClick={() => setQuery({ topic: null }, 'step')}>
            show all
          </button>
        )
      }
    >
      <Table
        caption="Dead letters by their topic"
        rows={page.topics}
        keyOf={({ topic }) => topic}
        columns={[
          {
            title: 'Topic',
            isHead: true,
            cell: ({ of }) => (
              <a
                href={BASE + withQuery({ topic: of === chosen ? null : of, after: null })}
                {...(of === chosen ? { 'aria-current': 'true' as const } : {})}
              >
                {visible(of)}
              </a>
            ),
          },
          {
            title: 'Count',
            isNumber: true,
            cell: ({ length }) => (
              <>
                <Bar value={length} most={most} />
                {count(length)}
              </>
            ),
          },
        ]}
      />
    </Section>
  );
}

const keyOf = ({ topic, id }: DeadRow) => `${topic} ${id}`;

/** Chosen rows that are shown: others were redriven or deleted meanwhile, or are on another page. */
function chosenByTopic(entries: readonly DeadRow[], chosen: ReadonlySet<string>) {
  const byTopic = new Map<string, string[]>();
  let count = 0;
  for (const row of entries) {
    if (!chosen.has(keyOf(row))) continue;
    byTopic.set(row.topic, [...(byTopic.get(row.topic) ?? []), row.id]);
    count += 1;
  }
  return { byTopic, count };
}

function List({
  entries,
  page,
  reload,
  reason,
}: {
  entries: readonly DeadRow[];
  page: Dead;
  reload: () => void;
  reason: string;
}) {
  const [chosen, choose] = useState<ReadonlySet<string>>(new Set());
  const done = () => {
    choose(new Set());
    reload();
  };
  const columns: readonly Column<DeadRow>[] = [
    {
      title: 'Message',
      isHead: true,
      cell: ({ topic, id, origin }) => (
        <a href={`${BASE}/journey/${part(topic)}/${id}`}>
          {visible(origin.topic)} <span class="id">{origin.id}</span>
        </a>
      ),
    },
    { title: 'Group', cell: ({ origin }) => <Code of={origin.group} /> },
    { title: 'Died', cell: ({ origin }) => <Time at={origin.at} /> },
    { title: 'Attempts', isNumber: true, cell: ({ origin }) => count(origin.attempts) },
    { title: 'Reason', cell: ({ origin }) => <span class="reason">{visible(origin.reason)}</span> },
    { title: 'Body', width: 'wide', cell: ({ preview }) => <Preview of={preview} /> },
    {
      title: 'Actions',
      isActions: true,
      cell: (row) => {
        const target = { topic: row.topic, ids: [row.id] };
        const about = `${row.origin.topic} ${row.origin.id}`;
        return (
          <div class="row-actions">
            {missing('redriveChosen') === null && (
              <Action verb="dead.redrive" target={target} about={about} quiet done={done} />
            )}
            <Action
              verb="dead.edit"
              target={target}
              about={about}
              quiet
              done={done}
              initial={editable(row.preview)}
            />
            <a
              class="button-quiet"
              href={`${API}/topics/${part(row.topic)}/entries/${row.id}/body`}
              download={`${row.id}.bin`}
              aria-label={`Download ${about}`}
            >
              download
            </a>
          </div>
        );
      },
    },
  ];
  const { byTopic, count: acted } = chosenByTopic(entries, chosen);
  const notChosen = missing('redriveChosen');
  const wholeTopics = [...new Set(entries.map(({ topic }) => topic))];
  return (
    <Section
      title={reason === '' ? 'Messages' : `Because “${visible(reason)}”`}
      aside={
        reason === '' ? undefined : (
          <button type="button" class="link" onClick={() => setQuery({ reason: null }, 'step')}>
            show all reasons
          </button>
        )
      }
    >
      <Table
        caption="Dead letters"
        rows={entries}
        keyOf={keyOf}
        columns={columns}
        {...(notChosen === null ? { selection: { chosen, choose } } : {})}
      />
      {notChosen !== null && <p class="muted">{notChosen}: all of a topic are redriven.</p>}
      {byTopic.size > 0 && (
        <div class="chosen-bar" role="group" aria-label="Chosen messages">
          <strong>{many(acted, 'message')} chosen</strong>
          {[...byTopic].map(([topic, ids]) => [
            <Action
              key={`redrive ${topic}`}
              verb="dead.redrive"
              target={{ topic, ids }}
              label={byTopic.size === 1 ? 'Redrive' : `Redrive those of ${visible(topic)}`}
              about={many(ids.length, 'message')}
              done={done}
            />,
            <Action
              key={`delete ${topic}`}
              verb="dead.delete"
              target={{ topic, ids }}
              label={byTopic.size === 1 ? 'Delete' : `Delete those of ${visible(topic)}`}
              about={many(ids.length, 'message')}
              done={done}
            />,
          ])}
        </div>
      )}
      <div class="more">
        {queryOf('after') !== '' && (
          <a class="button" href={BASE + withQuery({ after: null })}>
            From the newest
          </a>
        )}
        {page.next !== null && (
          <a class="button" href={BASE + withQuery({ after: page.next })}>
            Further
          </a>
        )}
        {byTopic.size === 0 &&
          (notChosen === null || reason === '') &&
          wholeTopics.map((topic) => (
            <Action
              key={topic}
              verb="dead.redrive"
              target={{
                topic,
                all: true,
                ...(reason === ''
                  ? {}
                  : { where: `header.rivulet-dead-reason == ${JSON.stringify(reason)}` }),
              }}
              label={`Redrive all of ${visible(topic)}`}
              done={done}
            />
          ))}
      </div>
    </Section>
  );
}
