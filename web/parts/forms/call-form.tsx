/** Calls an endpoint: a form from its schema or JSON, metadata, deadline, node; the reply, or each reply. */
import { useState } from 'preact/hooks';
import type { CallReply, CallRequest, ServiceDetail } from '../../../src/console/api-types.ts';
import { announce } from '../../state/announce.ts';
import { API, type ApiFailure, failureOf, post, shellWord } from '../../state/api.ts';
import { duration, many, visible } from '../../state/format.ts';
import { canCall } from '../../state/session.ts';
import { Copy } from '../copy.tsx';
import { Failed } from '../states.tsx';
import { Tag } from '../tag.tsx';
import { pairsOf } from './fields.tsx';
import { type Json, ValueForm } from './value-form.tsx';

type Endpoint = ServiceDetail['versions'][number]['endpoints'][number];

export function CallForm({
  service,
  endpoint,
  nodes,
}: {
  service: string;
  endpoint: Endpoint;
  nodes: readonly { id: string; address: string }[];
}) {
  const [text, setText] = useState('{}');
  const [asJson, setAsJson] = useState(
    endpoint.request === null || endpoint.request.values.length === 0,
  );
  const [metadata, setMetadata] = useState('');
  const [deadline, setDeadline] = useState('5000');
  const [node, setNode] = useState('');
  const [isBusy, setBusy] = useState(false);
  const [reply, setReply] = useState<CallReply | null>(null);
  const [failure, setFailure] = useState<ApiFailure | null>(null);
  if (!canCall()) {
    return (
      <p class="muted">A call needs the role "operate", and a console that is not read-only.</p>
    );
  }

  const value = parse(text);
  const request = (): CallRequest => {
    if (value === undefined)
      throw new Error('The request is not JSON yet: look at its quotes and commas.');
    if (!/^\d+$/.test(deadline)) throw new Error(`"${deadline}" is not a number of milliseconds.`);
    return {
      service,
      endpoint: endpoint.name,
      request: value,
      deadlineMs: Number(deadline),
      ...(metadata.trim() === '' ? {} : { metadata: pairsOf('Metadata', metadata) }),
      ...(node === '' ? {} : { node }),
      ...(endpoint.stream ? { stream: true } : {}),
    };
  };
  const call = async () => {
    setBusy(true);
    setFailure(null);
    try {
      const result = await post<CallReply>('/call', request());
      setReply(result);
      announce(
        result.ok ? `Answered in ${duration(result.ms)}` : `Failed: ${result.error?.message ?? ''}`,
      );
    } catch (error) {
      setReply(null);
      setFailure(failureOf(error));
    } finally {
      setBusy(false);
    }
  };

  const id = `call-${endpoint.name}`;
  return (
    <form
      class="call-form"
      onSubmit={(event) => {
        event.preventDefault();
        call();
      }}
    >
      {!asJson && endpoint.request !== null ? (
        <ValueForm
          of={endpoint.request}
          value={value ?? {}}
          change={(next) => setText(JSON.stringify(next, null, 2))}
          path={`-${endpoint.name}`}
        />
      ) : (
        <div class="field">
          <label for={`${id}-json`}>Request (JSON)</label>
          <textarea
            id={`${id}-json`}
            rows={6}
            value={text}
            spellcheck={false}
            aria-invalid={value === undefined}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </div>
      )}
      {endpoint.request !== null && endpoint.request.values.length > 0 && (
        <p>
          <button type="button" class="link" onClick={() => setAsJson(!asJson)}>
            {asJson ? 'As a form' : 'As JSON'}
          </button>
        </p>
      )}
      <details>
        <summary>Metadata, deadline, node</summary>
        <div class="filters">
          <div class="field grow">
            <label for={`${id}-metadata`}>Metadata, one on a line: name: value</label>
            <textarea
              id={`${id}-metadata`}
              rows={2}
              value={metadata}
              spellcheck={false}
              onInput={(event) => setMetadata(event.currentTarget.value)}
            />
          </div>
          <div class="field">
            <label for={`${id}-deadline`}>Deadline (ms)</label>
            <input
              id={`${id}-deadline`}
              inputMode="numeric"
              value={deadline}
              onInput={(event) => setDeadline(event.currentTarget.value)}
            />
          </div>
          <div class="field">
            <label for={`${id}-node`}>Node</label>
            <select
              id={`${id}-node`}
              value={node}
              onChange={(event) => setNode(event.currentTarget.value)}
            >
              <option value="">as the selector chooses</option>
              {nodes.map((each) => (
                <option key={each.id} value={each.address}>
                  {visible(each.id)}
                </option>
              ))}
            </select>
          </div>
        </div>
      </details>
      <div class="more">
        <button type="submit" class="primary" disabled={isBusy || value === undefined}>
          {isBusy ? 'Calling' : `Call ${visible(endpoint.name)}`}
        </button>
        {value !== undefined && (
          <Copy text={curlOf(service, endpoint.name, value)} what="the call as a curl command" />
        )}
      </div>
      {failure !== null && <Failed failure={failure} />}
      {reply !== null && <Reply of={reply} />}
    </form>
  );
}

function Reply({ of }: { of: CallReply }) {
  return (
    <div class="section">
      <p>
        {of.ok ? <Tag tone="good">ok</Tag> : <Tag tone="bad">{of.error?.code ?? 'failed'}</Tag>}{' '}
        <span class="muted">
          in {duration(of.ms)}
          {of.replies.length > 1 && `, ${many(of.replies.length, 'reply', 'replies')}`}
          {of.cut && ', and more that are not shown'}
        </span>
      </p>
      {of.error !== null && <p class="field-error">{visible(of.error.message)}</p>}
      {of.replies.length > 0 && (
        <ol class={of.replies.length > 1 ? 'replies' : 'replies single'}>
          {of.replies.map((each, at) => (
            <li key={at}>
              {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls */}
              <pre class="code" tabIndex={0}>
                {JSON.stringify(each, null, 2)}
              </pre>
            </li>
          ))}
        </ol>
      )}
    </div>
  );
}

function parse(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}

function curlOf(service: string, endpoint: string, request: Json): string {
  const body = JSON.stringify({ service, endpoint, request });
  return `curl -s -X POST -H 'content-type: application/json' -d ${shellWord(body)} ${shellWord(`${window.location.origin}${API}/call`)}`;
}
