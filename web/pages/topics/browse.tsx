/**
 * The messages of a topic: by time, by id, from the newest, filtered, or as they come.
 *
 * Invariants: position and filter are in the address; no group is made; the tail keeps at most 500 entries
 * and says how many it left out.
 */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { EntriesPage, EntryRow } from '../../../src/console/api-types.ts';
import { Preview } from '../../parts/body.tsx';
import { Code } from '../../parts/code.tsx';
import { TimeBar } from '../../parts/figures/time-bar.tsx';
import { Failed, Missing, Notice, Show } from '../../parts/states.tsx';
import { type Column, Table } from '../../parts/table.tsx';
import { Tag } from '../../parts/tag.tsx';
import { Time } from '../../parts/time.tsx';
import { TopicFrame } from '../../parts/topic-frame.tsx';
import type { PageProps } from '../../routes.ts';
import { type ApiFailure, failureOf } from '../../state/api.ts';
import { useDraft } from '../../state/draft.ts';
import { bytes, count, many } from '../../state/format.ts';
import { watch } from '../../state/live.ts';
import { useResource } from '../../state/resource.ts';
import { BASE, part, queryOf, setQuery, withQuery } from '../../state/router.ts';
import { missing, root } from '../../state/session.ts';

const TAIL = 500;
const DECODERS = ['auto', 'json', 'msgpack', 'text', 'hex', 'proto'];

export function BrowsePage({ parts: [topic = ''] }: PageProps) {
  const why = missing('browse');
  const mode = queryOf('mode') === 'tail' ? 'tail' : 'read';
  const query = new URLSearchParams();
  for (const each of ['from', 'after', 'where', 'decode']) {
    if (queryOf(each) !== '') query.set(each, queryOf(each));
  }
  if (isNewestFirst()) query.set('newest', '1');
  const path = `/topics/${part(topic)}/entries?${query}`;
  const page = useResource<EntriesPage>(why === null ? path : null);
  if (why !== null) {
    return (
      <TopicFrame topic={topic} api={[]}>
        <Missing what="Messages cannot be browsed here" why={why} />
      </TopicFrame>
    );
  }
  return (
    <TopicFrame topic={topic} api={[path]} changed={page.reload}>
      <Controls page={page.value} mode={mode} />
      {mode === 'tail' ? (
        <Tail topic={topic} />
      ) : (
        <Show of={page}>{(value) => <Entries topic={topic} page={value} />}</Show>
      )}
    </TopicFrame>
  );
}

function Controls({ page, mode }: { page: EntriesPage | undefined; mode: 'tail' | 'read' }) {
  const where = queryOf('where');
  const from = queryOf('from');
  const isNewest = isNewestFirst();
  const draft = useDraft(where);
  const [position, setPosition] = useState('');
  const first = page?.firstAt ?? null;
  const last = page?.lastAt ?? null;
  const at = page?.entries[0]?.at ?? timeOf(from) ?? (isNewest ? last : first);
  const isByTime = missing('browseByTime') === null;
  return (
    <div class="section">
      {mode === 'read' && isByTime && first !== null && last !== null && last > first && (
        <TimeBar
          from={first}
          to={last}
          at={at ?? last}
          jump={(time) => setQuery({ from: String(time), after: null, mode: null }, 'step')}
        />
      )}
      <div class="filters">
        <nav class="more" aria-label="Positions">
          <a
            class="button"
            href={BASE + withQuery({ from: '0', after: null, mode: null })}
            {...(from === '0' && mode === 'read' ? { 'aria-current': 'true' as const } : {})}
          >
            Oldest
          </a>
          <a
            class="button"
            href={BASE + withQuery({ from: null, after: null, mode: null })}
            {...(from === '' && mode === 'read' ? { 'aria-current': 'true' as const } : {})}
          >
            Newest
          </a>
          <a
            class="button"
            href={BASE + withQuery({ from: null, after: null, mode: 'tail' })}
            {...(mode === 'tail' ? { 'aria-current': 'true' as const } : {})}
          >
            As they come
          </a>
        </nav>
        <form
          class="field"
          onSubmit={(event) => {
            event.preventDefault();
            const time = /^\d+(-\d+)?$/.test(position) ? position : Date.parse(position);
            if (Number.isNaN(time)) return;
            setQuery({ from: String(time), after: null, mode: null }, 'step');
          }}
        >
          <label for="browse-position">Go to an id or a time</label>
          <input
            id="browse-position"
            type="text"
            placeholder="2026-11-30 17:00"
            value={position}
            autocomplete="off"
            spellcheck={false}
            onInput={(event) => setPosition(event.currentTarget.value)}
          />
        </form>
        <form
          class="field grow"
          onSubmit={(event) => {
            event.preventDefault();
            setQuery({ where: draft.sent(draft.text), after: null }, 'step');
          }}
        >
          <label for="browse-where">Only messages where</label>
          <input
            id="browse-where"
            type="search"
            value={draft.text}
            placeholder={'json.total > 100 && header.tenant == "a"'}
            autocomplete="off"
            spellcheck={false}
            onInput={(event) => {
              const { value } = event.currentTarget;
              draft.type(value);
              if (value === '') setQuery({ where: draft.sent(value), after: null }, 'step');
            }}
          />
        </form>
        <div class="field">
          <label for="browse-decode">Show as</label>
          <select
            id="browse-decode"
            value={queryOf('decode') || 'auto'}
            onChange={(event) => {
              const { value } = event.currentTarget;
              setQuery({ decode: value === 'auto' ? null : value }, 'step');
            }}
          >
            {DECODERS.map((each) => (
              <option key={each} value={each}>
                {each}
              </option>
            ))}
          </select>
        </div>
      </div>
    </div>
  );
}

function Entries({ topic, page }: { topic: string; page: EntriesPage }) {
  const where = queryOf('where');
  return (
    <div class="section">
      <p class="muted">
        {many(page.length, 'message')}
        {where !== '' && `, ${count(page.scanned)} looked at`}
        {(root.value?.masked.length ?? 0) > 0 && ', some values are masked for you'}
      </p>
      {page.entries.length === 0 ? (
        <NothingFound page={page} where={where} />
      ) : (
        <EntryTable topic={topic} entries={page.entries} />
      )}
      <Further page={page} />
    </div>
  );
}

const LIMITS = {
  entries: '50 000 messages',
  bytes: '64 MiB',
  time: '2 seconds',
  page: '',
  end: '',
};

function Further({ page }: { page: EntriesPage }) {
  if (page.next === null) return null;
  const limit = LIMITS[page.stopped];
  return (
    <div class="more">
      {limit !== '' && (
        <span class="muted">
          One request looks at {limit} at most; scanned to <code>{page.scannedTo}</code>.
        </span>
      )}
      <a class="button" href={BASE + withQuery({ after: page.next })}>
        {limit === '' ? 'Further' : 'Go on'}
      </a>
    </div>
  );
}

/** Without a position the newest are first; further pages keep the direction. */
function isNewestFirst(): boolean {
  return queryOf('from') === '';
}

function NothingFound({ page, where }: { page: EntriesPage; where: string }) {
  if (where === '') {
    return (
      <Notice kind="empty" title={page.length === 0 ? 'No message' : 'No message from here on'}>
        {page.length === 0 ? (
          <p>What is published next is shown under “As they come”.</p>
        ) : (
          <p>
            <a href={BASE + withQuery({ from: null, after: null })}>Go to the newest</a>
          </p>
        )}
      </Notice>
    );
  }
  return (
    <Notice kind="empty" title="No message fits the filter">
      <p>
        Looked at {many(page.scanned, 'message')}
        {page.next === null ? ', to the end.' : ' so far.'}
      </p>
      <p class="hint">
        Examples: <code>json.total &gt; 100</code>, <code>header.tenant == "a"</code>,{' '}
        <code>key ^= "eu."</code>
      </p>
    </Notice>
  );
}

function EntryTable({ topic, entries }: { topic: string; entries: readonly EntryRow[] }) {
  const columns: readonly Column<EntryRow>[] = [
    {
      title: 'Id',
      isHead: true,
      cell: ({ id }) => (
        <a class="id" href={`${BASE}/journey/${part(topic)}/${id}`}>
          {id}
        </a>
      ),
    },
    { title: 'Time', cell: ({ at }) => <Time at={at} /> },
    ...(entries.some(({ key }) => key !== null)
      ? [
          {
            title: 'Key',
            cell: ({ key }: EntryRow) =>
              key === null ? <span class="unknown">—</span> : <Code of={key} />,
          },
        ]
      : []),
    { title: 'Body', width: 'wide', cell: ({ preview }) => <Preview of={preview} /> },
    { title: 'Headers', isNumber: true, cell: ({ headers }) => count(headers.length) },
    { title: 'Size', isNumber: true, cell: (row) => bytes(row.bytes) },
  ];
  return (
    <Table
      caption={`Messages of ${topic}`}
      rows={entries}
      keyOf={({ id }) => id}
      columns={columns}
    />
  );
}

function Tail({ topic }: { topic: string }) {
  const [entries, setEntries] = useState<readonly EntryRow[]>([]);
  const [skipped, setSkipped] = useState(0);
  const [failure, setFailure] = useState<ApiFailure | null>(null);
  const [isHeld, setHeld] = useState(false);
  const [held, setMissed] = useState(0);
  const holds = useRef(isHeld);
  holds.current = isHeld;
  useEffect(
    () =>
      watch(`tail:${encodeURIComponent(topic)}`, (live) => {
        if (live.kind === 'error') {
          setFailure(failureOf(new Error(live.error.message)));
        } else if (live.kind === 'append') {
          setFailure(null);
          if (holds.current) {
            setMissed((before) => before + live.entries.length + live.skipped);
            return;
          }
          setEntries((before) => [...[...live.entries].reverse(), ...before].slice(0, TAIL));
          setSkipped((before) => before + live.skipped);
        }
      }),
    [topic],
  );
  if (failure !== null) return <Failed failure={failure} />;
  return (
    <div class="section">
      <div class="more">
        {isHeld ? <Tag tone="idle">Held</Tag> : <Tag tone="busy">Waiting for messages</Tag>}
        <button type="button" onClick={() => setHeld(!isHeld)}>
          {isHeld ? 'Go on' : 'Hold'}
        </button>
        <span class="muted">
          {many(entries.length, 'message')} shown, newest first
          {held > 0 && `, ${count(held)} came while it was held`}
          {skipped > 0 && `, ${count(skipped)} came faster than they can be shown`}
        </span>
      </div>
      {entries.length === 0 ? (
        <Notice kind="empty" title="Nothing yet">
          <p>Each message that is published from now on is shown here.</p>
        </Notice>
      ) : (
        <EntryTable topic={topic} entries={entries} />
      )}
    </div>
  );
}

function timeOf(id: string | null | undefined): number | null {
  const ms = /^(\d+)(-\d+)?$/.exec(id ?? '')?.[1];
  return ms === undefined ? null : Number(ms);
}
