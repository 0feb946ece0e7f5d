/** The way into a journey: a topic and an id, or a trace. */
import { useState } from 'preact/hooks';
import { Page } from '../parts/page.tsx';
import { Missing } from '../parts/states.tsx';
import { go, part } from '../state/router.ts';
import { missing } from '../state/session.ts';

export function FindJourneyPage() {
  const why = missing('journey');
  const [topic, setTopic] = useState('');
  const [id, setId] = useState('');
  const [trace, setTrace] = useState('');
  return (
    <Page title="Journey">
      {why !== null ? (
        <Missing what="No journeys" why={why} />
      ) : (
        <>
          <p>
            Follow one message: from its publish through every group, attempt, dead letter, call and
            workflow that it caused. Each id in a list of messages leads here.
          </p>
          <form
            class="filters"
            onSubmit={(event) => {
              event.preventDefault();
              go(`/journey/${part(topic.trim())}/${encodeURIComponent(id.trim())}`);
            }}
          >
            <div class="field grow">
              <label for="journey-topic">Topic</label>
              <input
                id="journey-topic"
                required
                value={topic}
                autocomplete="off"
                spellcheck={false}
                onInput={(event) => setTopic(event.currentTarget.value)}
              />
            </div>
            <div class="field grow">
              <label for="journey-id">Id</label>
              <input
                id="journey-id"
                required
                pattern="\s*\d+(-\d+)?\s*"
                title="the number of a message, or two with a dash between them"
                placeholder="1795253507502-0"
                value={id}
                autocomplete="off"
                onInput={(event) => setId(event.currentTarget.value)}
              />
            </div>
            <button type="submit" class="primary">
              Follow the message
            </button>
          </form>
          <form
            class="filters"
            onSubmit={(event) => {
              event.preventDefault();
              go(`/traces/${encodeURIComponent(trace.trim().toLowerCase())}`);
            }}
          >
            <div class="field grow">
              <label for="journey-trace">Or a trace id</label>
              <input
                id="journey-trace"
                required
                pattern="\s*[0-9a-fA-F]{32}\s*"
                title="32 hexadecimal digits"
                placeholder="4bf92f3577b34da6a3ce929d0e0e4736"
                value={trace}
                autocomplete="off"
                spellcheck={false}
                onInput={(event) => setTrace(event.currentTarget.value)}
              />
            </div>
            <button type="submit">Show the trace</button>
          </form>
        </>
      )}
    </Page>
  );
}
