/**
 * One instance: its state, what it waits for, and its history as a timeline of any length.
 *
 * Invariant: pages of events are added as they are asked for; the table keeps the document small.
 */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { Verb, WorkflowDetail, WorkflowEvent } from '../../src/console/api-types.ts';
import { Action } from '../parts/actions/action.tsx';
import { Body } from '../parts/body.tsx';
import { Figures } from '../parts/figures/figures.tsx';
import { Page, Section } from '../parts/page.tsx';
import { Missing, Notice, Show } from '../parts/states.tsx';
import { type Column, Table } from '../parts/table.tsx';
import { Tag, type Tone } from '../parts/tag.tsx';
import { Time } from '../parts/time.tsx';
import type { PageProps } from '../routes.ts';
import { announce } from '../state/announce.ts';
import { failureOf, get } from '../state/api.ts';
import { count, duration, many, visible } from '../state/format.ts';
import { useResource } from '../state/resource.ts';
import { BASE, part, queryOf, withQuery } from '../state/router.ts';
import { missing } from '../state/session.ts';
import { statusTone } from './workflows.tsx';

export function WorkflowPage({ parts: [name = '', id = ''] }: PageProps) {
  const path = `/workflows/${part(name)}/${part(id)}`;
  const why = missing('workflows');
  const detail = useResource<WorkflowDetail>(why === null ? path : null);
  const verbs: readonly Verb[] = detail.value?.verbs ?? [];
  return (
    <Page
      title={visible(id)}
      kind="workflow"
      crumbs={[
        { text: 'Workflows', to: '/workflows' },
        { text: visible(name), to: `/workflows?name=${encodeURIComponent(name)}` },
      ]}
      api={[path]}
      actions={
        <>
          <button type="button" onClick={detail.reload}>
            Read again
          </button>
          {verbs.map((verb) => (
            <Action
              key={verb}
              verb={verb}
              target={{ workflow: name, instance: id }}
              {...(verb === 'workflow.signal' && detail.value?.signals[0] !== undefined
                ? { initial: { name: detail.value.signals[0] } }
                : {})}
              about={visible(id)}
              done={detail.reload}
            />
          ))}
        </>
      }
    >
      {why !== null ? (
        <Missing what="No workflows" why={why} />
      ) : (
        <Show of={detail}>
          {(value) => (
            <>
              <State of={value} />
              <History
                key={`${value.id} ${value.events.length} ${value.status}`}
                of={value}
                path={path}
              />
              <Values of={value} />
            </>
          )}
        </Show>
      )}
    </Page>
  );
}

function State({ of }: { of: WorkflowDetail }) {
  return (
    <>
      <Figures
        figures={[
          { label: 'Status', value: <Tag tone={statusTone(of.status)}>{of.status}</Tag> },
          { label: 'Version', value: count(of.version) },
          { label: 'Started', value: <Time at={of.startedAt} /> },
          {
            label: of.endedAt === null ? 'Ended' : 'Took',
            value: of.endedAt === null ? 'not yet' : duration(of.endedAt - of.startedAt),
          },
          ...(of.dueAt === null ? [] : [{ label: 'Due', value: <Time at={of.dueAt} /> }]),
          ...(of.waitsFor === null || of.waitsFor === 'a time'
            ? []
            : [{ label: 'Waits for', value: visible(of.waitsFor) }]),
          ...(of.total === null ? [] : [{ label: 'Events', value: count(of.total) }]),
        ]}
      />
      {of.reason !== null && of.parked === null && <p class="field-error">{visible(of.reason)}</p>}
      {of.parked !== null && (
        <Notice kind="broken" title="Parked: it does nothing until a person acts">
          <p>{visible(of.parked.reason)}</p>
          {of.parked.difference !== null && <pre class="code">{of.parked.difference}</pre>}
        </Notice>
      )}
    </>
  );
}

const TONES: Record<string, Tone> = {
  start: 'good',
  step: 'good',
  retry: 'warn',
  wait: 'idle',
  signal: 'busy',
  message: 'busy',
  call: 'busy',
  child: 'busy',
  parked: 'bad',
  failed: 'bad',
  end: 'good',
};

function History({ of, path }: { of: WorkflowDetail; path: string }) {
  const [events, setEvents] = useState(of.events);
  const [next, setNext] = useState(of.next);
  const [isBusy, setBusy] = useState(false);
  const leaving = useRef(new AbortController());
  useEffect(() => () => leaving.current.abort(), []);
  const chosen = queryOf('event');
  const kind = queryOf('kind');
  useEffect(() => {
    setEvents(of.events);
    setNext(of.next);
  }, [of]);
  const more = async (all: boolean) => {
    setBusy(true);
    try {
      let after = next;
      let gathered = events;
      while (after !== null) {
        const page: WorkflowDetail = await get(
          `${path}?after=${encodeURIComponent(after)}`,
          leaving.current.signal,
        );
        gathered = [...gathered, ...page.events];
        after = page.next;
        if (!all) break;
      }
      setEvents(gathered);
      setNext(after);
      announce(`${many(gathered.length, 'event')} read`);
    } catch (error) {
      if (leaving.current.signal.aborted) return;
      announce(failureOf(error).message);
    } finally {
      setBusy(false);
    }
  };
  const kinds = [...new Set(events.map((event) => event.kind))];
  const rows = kind === '' ? events : events.filter((event) => event.kind === kind);
  const columns: readonly Column<WorkflowEvent>[] = [
    {
      title: 'Event',
      isHead: true,
      cell: (event) => (
        <a
          href={BASE + withQuery({ event: event.id === chosen ? null : event.id })}
          {...(event.id === chosen ? { 'aria-current': 'true' as const } : {})}
        >
          <Tag tone={TONES[event.kind] ?? 'idle'}>{event.kind}</Tag> {visible(event.name)}
        </a>
      ),
    },
    { title: 'At', cell: ({ at }) => <Time at={at} /> },
    {
      title: 'After',
      isNumber: true,
      cell: ({ at }) => <span class="muted">+{duration(at - of.startedAt)}</span>,
    },
    {
      title: 'What',
      width: 'wide',
      cell: ({ text, link }) => (
        <>
          {visible(text)}
          {link !== null && (
            <>
              {' '}
              <a href={BASE + (link.startsWith('/') ? link : `/${link}`)}>go there</a>
            </>
          )}
        </>
      ),
    },
  ];
  const record = events.find(({ id }) => id === chosen);
  return (
    <Section
      title="History"
      aside={
        <nav class="aside" aria-label="Kinds of events">
          {kinds.map((each) => (
            <a
              key={each}
              href={BASE + withQuery({ kind: each === kind ? null : each })}
              {...(each === kind ? { 'aria-current': 'true' as const } : {})}
            >
              {each}
            </a>
          ))}
        </nav>
      }
    >
      {record !== undefined && (
        <Body
          of={{ as: 'json', text: record.record, cut: false, error: null, masked: false }}
          label={`Record ${record.id}`}
        />
      )}
      <Table caption="History" rows={rows} keyOf={({ id }) => id} columns={columns} />
      {next !== null && (
        <div class="more">
          <span class="muted">
            {count(events.length)}
            {of.total === null ? '' : ` of ${count(of.total)}`} read
          </span>
          <button type="button" disabled={isBusy} onClick={() => more(false)}>
            Further
          </button>
          <button type="button" disabled={isBusy} onClick={() => more(true)}>
            All of them
          </button>
        </div>
      )}
    </Section>
  );
}

function Values({ of }: { of: WorkflowDetail }) {
  return (
    <div class="columns">
      {of.input !== null && (
        <Section title="Input">
          <Body of={of.input} label="Input" />
        </Section>
      )}
      {of.result !== null && (
        <Section title="Result">
          <Body of={of.result} label="Result" />
        </Section>
      )}
    </div>
  );
}
