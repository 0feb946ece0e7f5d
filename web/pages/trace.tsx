/** One trace: its spans on a scale of time, and the messages that carry it. */
import type { Trace } from '../../src/console/api-types.ts';
import { Page, Section } from '../parts/page.tsx';
import { Spans } from '../parts/spans.tsx';
import { Missing, Notice, Show } from '../parts/states.tsx';
import type { PageProps } from '../routes.ts';
import { many, visible } from '../state/format.ts';
import { useResource } from '../state/resource.ts';
import { BASE, part } from '../state/router.ts';
import { missing, root } from '../state/session.ts';

export function TracePage({ parts: [id = ''] }: PageProps) {
  const path = `/traces/${encodeURIComponent(id)}`;
  const why = missing('spans');
  const trace = useResource<Trace>(why === null ? path : null);
  const viewer = root.value?.traceUrl ?? null;
  return (
    <Page
      title={id}
      kind="trace"
      crumbs={[{ text: 'Journey', to: '/journey' }]}
      api={[path]}
      actions={
        viewer !== null && /^https?:\/\//.test(viewer) ? (
          <a class="button" href={viewer.replace('{traceId}', id)} rel="noreferrer" target="_blank">
            In the trace viewer
          </a>
        ) : undefined
      }
    >
      {why !== null ? (
        <Missing what="No spans" why={why} />
      ) : (
        <Show of={trace}>
          {({ spans, messages, missing: lines }) => (
            <>
              {spans.length === 0 ? (
                <Notice kind="empty" title="No span of this trace is recorded">
                  <p>
                    Services record spans with a broker on this machine, or where{' '}
                    <code>trace: {'{ store: 0.01 }'}</code> asks for it. They are kept for 24 hours.
                  </p>
                </Notice>
              ) : (
                <Section title="Spans" aside={many(spans.length, 'span')}>
                  <Spans of={spans} caption="Spans of the trace" />
                </Section>
              )}
              <Section title="Messages">
                {messages.length === 0 ? (
                  <p class="muted">No message is known to carry it.</p>
                ) : (
                  <ul>
                    {messages.map(({ topic, id: message }) => (
                      <li key={`${topic} ${message}`}>
                        <a href={`${BASE}/journey/${part(topic)}/${message}`}>
                          {visible(topic)} {message}
                        </a>
                      </li>
                    ))}
                  </ul>
                )}
              </Section>
              {lines.map((line) => (
                <p key={line} class="muted">
                  {line}
                </p>
              ))}
            </>
          )}
        </Show>
      )}
    </Page>
  );
}
