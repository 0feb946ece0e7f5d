/** One message: what it is, and everything that became of it, with an action at each point. */
import type { ComponentChildren } from 'preact';
import type { EntryDetail, Journey, JourneyGroup } from '../../src/console/api-types.ts';
import { Action } from '../parts/actions/action.tsx';
import { Body, editable, Headers } from '../parts/body.tsx';
import { Copy } from '../parts/copy.tsx';
import { Page, Section } from '../parts/page.tsx';
import { Spans } from '../parts/spans.tsx';
import { Missing, Notice, Show } from '../parts/states.tsx';
import type { Tone } from '../parts/tag.tsx';
import { Time } from '../parts/time.tsx';
import type { PageProps } from '../routes.ts';
import { API } from '../state/api.ts';
import { bytes, count, duration, many, visible } from '../state/format.ts';
import { type Resource, useResource } from '../state/resource.ts';
import { BASE, part } from '../state/router.ts';
import { missing, root } from '../state/session.ts';

export function JourneyPage({ parts: [topic = '', id = ''] }: PageProps) {
  const base = `${part(topic)}/${encodeURIComponent(id)}`;
  const path = `/journey/${base}`;
  const why = missing('journey');
  const journey = useResource<Journey>(why === null ? path : null);
  const entryPath = `/topics/${part(topic)}/entries/${encodeURIComponent(id)}`;
  const entry = useResource<EntryDetail>(why === null ? null : entryPath);
  return (
    <Page
      title={id}
      kind="message"
      crumbs={[
        { text: 'Topics', to: '/topics' },
        { text: visible(topic), to: `/topics/${part(topic)}` },
        { text: 'Messages', to: `/topics/${part(topic)}/messages` },
      ]}
      api={why === null ? [path, entryPath] : [entryPath]}
      actions={
        <button type="button" onClick={why === null ? journey.reload : entry.reload}>
          Read again
        </button>
      }
    >
      {why !== null && (
        <>
          <Show of={entry}>{(value) => <Message entry={value} topic={topic} id={id} />}</Show>
          <Missing what="Its way is not shown" why={why} />
          {entry.value?.traceId != null && (
            <p>
              Its services may have recorded what it caused: <TraceLink id={entry.value.traceId} />
            </p>
          )}
        </>
      )}
      {why === null && (
        <Show of={journey}>
          {(value) => (
            <>
              <Route journey={value} reload={journey.reload} />
              <Message entry={value.entry} topic={topic} id={id} />
              <OtherSpans journey={value} />
              <NotShown journey={value} />
            </>
          )}
        </Show>
      )}
    </Page>
  );
}

function Stop({
  mark,
  tone,
  title,
  facts,
  actions,
  children,
}: {
  mark: string;
  tone: Tone;
  title: ComponentChildren;
  facts: ComponentChildren;
  actions?: ComponentChildren;
  children?: ComponentChildren;
}) {
  return (
    <li class="stop">
      <span class={`stop-mark tag-${tone}`} aria-hidden="true">
        <span>{mark}</span>
      </span>
      <div>
        <div class="stop-head">
          {title}
          <span class="stop-facts">{facts}</span>
          {actions !== undefined && <span class="row-actions">{actions}</span>}
        </div>
        {children}
      </div>
    </li>
  );
}

function Route({ journey, reload }: { journey: Journey; reload: () => void }) {
  const { groups, workflows, copies, entry } = journey;
  const publish = journey.spans.find(({ kind }) => kind === 'publish');
  return (
    <Section title="What became of it">
      <ol class="route">
        {copies
          .filter(({ kind }) => kind === 'origin')
          .map(({ topic, id }) => (
            <Stop
              key={`${topic}${id}`}
              mark="↑"
              tone="idle"
              title={<strong>copied from</strong>}
              facts={<MessageLink topic={topic} id={id} />}
            />
          ))}
        <Stop
          mark="●"
          tone="good"
          title={<strong>published</strong>}
          facts={
            <>
              <Time at={journey.at} />
              {publish !== undefined && (
                <>
                  {' '}
                  by {visible(publish.service)} {visible(publish.node)}
                </>
              )}
              {entry === null && ', and deleted since'}
              {journey.traceId !== null && (
                <>
                  {', '}
                  <TraceLink id={journey.traceId} />
                </>
              )}
            </>
          }
        />
        {groups.map((each) => (
          <GroupStop key={each.group} of={each} journey={journey} reload={reload} />
        ))}
        {workflows.map(({ name, id, status, waitsFor }) => (
          <Stop
            key={`${name}/${id}`}
            mark="◆"
            tone="busy"
            title={
              <>
                <strong>workflow</strong>
                <a class="name" href={`${BASE}/workflows/${part(name)}/${part(id)}`}>
                  {visible(name)}/{visible(id)}
                </a>
              </>
            }
            facts={waitsFor === null ? status : `${status}, waits for ${visible(waitsFor)}`}
            actions={
              waitsFor === null ? undefined : (
                <Action
                  verb="workflow.signal"
                  target={{ workflow: name, instance: id }}
                  about={id}
                  initial={{ name: waitsFor }}
                  quiet
                  done={reload}
                />
              )
            }
          />
        ))}
        {copies
          .filter(({ kind }) => kind !== 'origin')
          .map(({ kind, topic, id }) => (
            <Stop
              key={`${topic}${id}`}
              mark="↓"
              tone="busy"
              title={<strong>{kind === 'edited' ? 'edited and published' : 'redriven'}</strong>}
              facts={<MessageLink topic={topic} id={id} />}
            />
          ))}
      </ol>
      {groups.length === 0 && workflows.length === 0 && (
        <p class="muted">No group reads this topic, so nothing has happened to it.</p>
      )}
    </Section>
  );
}

const STATES: Record<JourneyGroup['state'], { mark: string; tone: Tone; text: string }> = {
  waiting: { mark: '○', tone: 'idle', text: 'not yet reached' },
  pending: { mark: '◐', tone: 'busy', text: 'pending' },
  settled: { mark: '●', tone: 'good', text: 'settled' },
  dead: { mark: '■', tone: 'bad', text: 'dead letter' },
  unknown: { mark: '◐', tone: 'idle', text: 'delivered, settled or pending' },
  untold: { mark: '?', tone: 'idle', text: 'not told by the broker' },
};

function GroupStop({
  of,
  journey: { topic, id },
  reload,
}: {
  of: JourneyGroup;
  journey: Journey;
  reload: () => void;
}) {
  const { mark, tone, text } = STATES[of.state];
  const target = { topic, group: of.group, ids: [id] };
  const about = `for ${of.group}`;
  return (
    <Stop
      mark={mark}
      tone={tone}
      title={
        <>
          <a class="name" href={`${BASE}/topics/${part(topic)}/groups/${part(of.group)}`}>
            {visible(of.group)}
          </a>
          <strong>{text}</strong>
        </>
      }
      facts={<GroupFacts of={of} />}
      actions={
        of.state === 'pending' ? (
          <>
            <Action verb="pending.deliver" target={target} about={about} quiet done={reload} />
            <Action verb="pending.giveBack" target={target} about={about} quiet done={reload} />
            <Action verb="pending.claim" target={target} about={about} quiet done={reload} />
            <Action verb="pending.deadLetter" target={target} about={about} quiet done={reload} />
            <Action verb="pending.acknowledge" target={target} about={about} quiet done={reload} />
          </>
        ) : of.dead !== null && missing('redriveChosen') === null ? (
          <>
            <Action
              verb="dead.redrive"
              target={{ topic: of.dead.topic, ids: [of.dead.id] }}
              about={about}
              quiet
              done={reload}
            />
            <Action
              verb="dead.edit"
              target={{ topic: of.dead.topic, ids: [of.dead.id] }}
              about={about}
              initial={editable(of.dead.preview)}
              quiet
              done={reload}
            />
          </>
        ) : undefined
      }
    >
      {of.spans.length > 0 && <Spans of={of.spans} caption={`What ${of.group} did`} />}
    </Stop>
  );
}

function GroupFacts({ of: { state, before, pending, dead, spans } }: { of: JourneyGroup }) {
  if (state === 'waiting') {
    return <>{before === null ? '' : `${many(before, 'message')} before it`}</>;
  }
  if (pending !== null) {
    return (
      <>
        {pending.consumer === ''
          ? 'waits for its next delivery'
          : `held by ${visible(pending.consumer)}`}
        , idle {duration(pending.idleMs)}, attempt {count(pending.attempts)}
        {pending.dueInMs !== null && `, due in ${duration(pending.dueInMs)}`}
        {pending.reason !== null && `, last “${visible(pending.reason)}”`}
      </>
    );
  }
  if (dead !== null) {
    return (
      <>
        {dead.origin.attempts !== null && `after ${many(dead.origin.attempts, 'attempt')}, `}“
        {visible(dead.origin.reason)}” <MessageLink topic={dead.topic} id={dead.id} />
      </>
    );
  }
  const deliver = spans.find(({ kind }) => kind === 'deliver');
  if (deliver === undefined) return null;
  return (
    <>
      in {duration(deliver.ms)} by {visible(deliver.service)} {visible(deliver.node)}
    </>
  );
}

function MessageLink({ topic, id }: { topic: string; id: string }) {
  return (
    <a href={`${BASE}/journey/${part(topic)}/${id}`}>
      {visible(topic)} {id}
    </a>
  );
}

export function TraceLink({ id }: { id: string }) {
  const template = root.value?.traceUrl ?? null;
  return (
    <>
      <a href={`${BASE}/traces/${id}`}>trace {id.slice(0, 8)}</a>
      {template !== null && /^https?:\/\//.test(template) && (
        <>
          {' '}
          <a href={template.replace('{traceId}', id)} rel="noreferrer" target="_blank">
            in the trace viewer
          </a>
        </>
      )}
    </>
  );
}

function Message({ entry, topic, id }: { entry: EntryDetail | null; topic: string; id: string }) {
  const path = `/topics/${part(topic)}/entries/${encodeURIComponent(id)}`;
  const needsMore = entry !== null && entry.body === null && entry.bodyBytes <= 1 << 20;
  const more: Resource<EntryDetail> = useResource<EntryDetail>(needsMore ? path : null);
  const shown = more.value ?? entry;
  if (shown === null) {
    return (
      <Section title="Message">
        <Notice kind="empty" title="The message is deleted">
          <p>Retention or a person removed it. What is known of its way is above.</p>
        </Notice>
      </Section>
    );
  }
  return (
    <Section
      title="Message"
      aside={
        <>
          <span>
            {bytes(shown.bodyBytes)}
            {shown.contentType !== null && `, ${visible(shown.contentType)}`}
          </span>
          <a href={`${API}${path}/body`} download={`${id}.bin`}>
            download
          </a>
          <Neighbours of={shown} topic={topic} />
        </>
      }
    >
      {shown.messageId !== undefined && (
        <p>
          <span class="muted">{shown.messageId === id ? 'Place' : 'Id'} </span>
          <code>{shown.messageId === id ? shown.id : shown.messageId}</code>
        </p>
      )}
      {shown.key !== null && (
        <p>
          <span class="muted">Key </span>
          <code>{visible(shown.key)}</code> <Copy text={shown.key} what="the key" />
        </p>
      )}
      {shown.body === null ? (
        <Notice kind="missing" title="The body is too large to be shown">
          <p>
            It has {bytes(shown.bodyBytes)}; up to 1 MiB is shown.{' '}
            <a href={`${API}${path}/body`} download={`${id}.bin`}>
              Download it
            </a>
            .
          </p>
        </Notice>
      ) : (
        <Body of={shown.body} label="Body" />
      )}
      <h3>Headers</h3>
      <Headers of={shown.headers} />
    </Section>
  );
}

function Neighbours({ of, topic }: { of: EntryDetail; topic: string }) {
  if (missing('browse') !== null) return null;
  return (
    <>
      {of.previousId !== null && (
        <a href={`${BASE}/journey/${part(topic)}/${of.previousId}`}>previous</a>
      )}
      {of.nextId !== null && <a href={`${BASE}/journey/${part(topic)}/${of.nextId}`}>next</a>}
    </>
  );
}

function OtherSpans({ journey: { spans } }: { journey: Journey }) {
  if (spans.length === 0) return null;
  return (
    <Section title="What it caused" aside={many(spans.length, 'span')}>
      <Spans of={spans} caption="Spans of its trace" />
    </Section>
  );
}

function NotShown({ journey: { missing: lines } }: { journey: Journey }) {
  if (lines.length === 0) return null;
  return (
    <Section title="Not shown">
      <ul>
        {lines.map((line) => (
          <li key={line} class="muted">
            {line}
          </li>
        ))}
      </ul>
    </Section>
  );
}
