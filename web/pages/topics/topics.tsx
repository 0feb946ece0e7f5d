/** All topics: 100 a page, sorted by any number, by a part of the name. */
import { useEffect, useRef } from 'preact/hooks';
import type { TopicsPage as Topics } from '../../../src/console/api-types.ts';
import { Page } from '../../parts/page.tsx';
import { Missing, Notice, Show } from '../../parts/states.tsx';
import { TopicTable } from '../../parts/topic-table.tsx';
import { useDraft } from '../../state/draft.ts';
import { count, many, visible } from '../../state/format.ts';
import { useResource } from '../../state/resource.ts';
import { BASE, queryOf, setQuery, withQuery } from '../../state/router.ts';
import { missing } from '../../state/session.ts';

const PAUSE_MS = 200;

export function TopicsPage() {
  const why = missing('topics');
  const q = queryOf('q');
  const sort = queryOf('sort') || 'name';
  const after = queryOf('after');
  const query = new URLSearchParams({ sort });
  if (q !== '') query.set('q', q);
  if (after !== '') query.set('after', after);
  if (queryOf('scan') !== '') query.set('scan', '1');
  if (isInternalShown()) query.set('internal', '1');
  const path = why === null ? `/topics?${query}` : null;
  const topics = useResource<Topics>(path, `topics:${query}`);
  if (why !== null) {
    return (
      <Page title="Topics">
        <Missing what="No list of topics" why={why} />
      </Page>
    );
  }
  return (
    <Page title="Topics" api={[path ?? '']}>
      <Filter q={q} />
      <Show of={topics}>
        {(page) => (
          <div class="section">
            <p class="muted">
              {q === ''
                ? many(page.total, 'topic')
                : `${count(page.matched)} of ${many(page.total, 'topic')}`}
              {!page.complete && ', more names are being gathered'}
              <InternalSwitch hidden={page.hidden} />
            </p>
            {page.topics.length === 0 ? (
              <NoTopics q={q} after={after} isOnRequest={missing('scan') === null} />
            ) : (
              <TopicTable
                rows={page.topics}
                caption="Topics"
                sortedBy={sort}
                total={q === '' ? page.total : page.matched}
              />
            )}
            {(after !== '' || page.next !== null) && (
              <nav class="more" aria-label="Further topics">
                {after !== '' && (
                  <a class="button" href={BASE + withQuery({ after: null })}>
                    From the start
                  </a>
                )}
                {page.next !== null && (
                  <a class="button" href={BASE + withQuery({ after: page.next })}>
                    Next 100
                  </a>
                )}
              </nav>
            )}
          </div>
        )}
      </Show>
    </Page>
  );
}

function isInternalShown(): boolean {
  return queryOf('internal') === '1';
}

/** Shows or hides what Rivulet keeps in its own topics: spans, audit, registrations, journals. */
function InternalSwitch({ hidden }: { hidden: number }) {
  if (isInternalShown()) {
    return (
      <>
        , Rivulet's own included.{' '}
        <a href={BASE + withQuery({ internal: null, after: null })}>Hide Rivulet's own</a>
      </>
    );
  }
  if (hidden === 0) return null;
  return (
    <>
      .{' '}
      <a href={BASE + withQuery({ internal: '1', after: null })}>
        Show {count(hidden)} of Rivulet's own
      </a>
    </>
  );
}

function Filter({ q }: { q: string }) {
  const draft = useDraft(q);
  const timer = useRef<number | undefined>(undefined);
  // A page that has been left changes no address.
  useEffect(() => () => window.clearTimeout(timer.current), []);
  return (
    <form
      class="filters"
      role="search"
      aria-label="Filter the topics"
      onSubmit={(event) => {
        event.preventDefault();
        window.clearTimeout(timer.current);
        setQuery({ q: draft.sent(draft.text), after: null }, 'step');
      }}
    >
      <div class="field grow">
        <label for="topics-q">Part of the name</label>
        <input
          id="topics-q"
          type="search"
          value={draft.text}
          autocomplete="off"
          spellcheck={false}
          onInput={(event) => {
            const next = event.currentTarget.value;
            draft.type(next);
            window.clearTimeout(timer.current);
            timer.current = window.setTimeout(
              () => setQuery({ q: draft.sent(next), after: null }, 'replace'),
              PAUSE_MS,
            );
          }}
        />
      </div>
    </form>
  );
}

function NoTopics({ q, after, isOnRequest }: { q: string; after: string; isOnRequest: boolean }) {
  if (q !== '') {
    return (
      <Notice kind="empty" title={`No topic has “${visible(q)}” in its name`}>
        <p>
          <a href={BASE + withQuery({ q: null, after: null })}>Show all topics</a>
        </p>
      </Notice>
    );
  }
  if (after !== '') {
    return (
      <Notice kind="empty" title="No further topics">
        <p>
          <a href={BASE + withQuery({ after: null })}>Go to the first</a>
        </p>
      </Notice>
    );
  }
  return (
    <Notice kind="empty" title="No topic yet">
      <p>A topic is there as soon as a message is published to it:</p>
      <pre class="mono">micro publish orders '{'{"total": 42}'}'</pre>
      {isOnRequest && (
        <p>
          Streams that others made are found by SCAN, which costs the server time:{' '}
          <a href={BASE + withQuery({ scan: '1' })}>look for them</a>
        </p>
      )}
    </Notice>
  );
}
